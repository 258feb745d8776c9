//go:build !playlists

// navembed's plugin for Navidrome: what players ask for similar music is answered by navembed.
//
// Each function takes and gives JSON. What goes wrong is an empty answer and a line in the log: Navidrome would ask
// again and again after an error.
package main

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
)

// track is what navembed tells of one.
type track struct {
	ID       string  `json:"id"`
	Title    string  `json:"title"`
	Artist   string  `json:"artist"`
	Album    string  `json:"album"`
	Duration float64 `json:"duration"`
	Score    float64 `json:"score"`
}

type artist struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// seed is a track, an album or an artist that music should be like.
type seed struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Artist string `json:"artist"`
	Count  int    `json:"count"`
	Limit  int    `json:"limit"`
}

func (one seed) String() string {
	if one.Artist == "" {
		return fmt.Sprintf("%q (%s)", one.Name, one.ID)
	}
	return fmt.Sprintf("%q by %q (%s)", one.Name, one.Artist, one.ID)
}

type songRef struct {
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Artist   string  `json:"artist,omitempty"`
	Album    string  `json:"album,omitempty"`
	Duration float64 `json:"duration,omitempty"`
}

type match struct {
	Song       songRef `json:"song"`
	Similarity float64 `json:"similarity"`
}

func main() {}

//go:wasmexport nd_on_init
func onInit() int32 {
	return withSettings(struct{}{}, func(known settings, _ struct{}) (struct{}, error) {
		return struct{}{}, known.test()
	})
}

//go:wasmexport nd_get_similar_songs_by_track
func similarSongsByTrack() int32 { return similarSongs("track") }

//go:wasmexport nd_get_similar_songs_by_album
func similarSongsByAlbum() int32 { return similarSongs("album") }

//go:wasmexport nd_get_similar_songs_by_artist
func similarSongsByArtist() int32 { return similarSongs("artist") }

func similarSongs(kind string) int32 {
	return withSettings(named("songs", []songRef{}), func(known settings, one seed) (map[string][]songRef, error) {
		tracks, err := like(known, kind, one, one.Count)
		return named("songs", each(tracks, track.song)), err
	})
}

//go:wasmexport nd_get_similar_artists
func similarArtists() int32 {
	return withSettings(named("artists", []artist{}), func(known settings, one seed) (map[string][]artist, error) {
		asked := known.asked(one.Limit)
		asked.Set("artist", cmp.Or(one.ID, one.Name))
		found, err := search[artist](&known.connection, "/api/v1/artists/similar", asked, fmt.Sprintf("artists like %v", one))
		return named("artists", found), err
	})
}

//go:wasmexport nd_get_sonic_similar_tracks
func sonicSimilarTracks() int32 {
	type question struct {
		Song  seed `json:"song"`
		Count int  `json:"count"`
	}
	return withSettings(named("matches", []match{}), func(known settings, asked question) (map[string][]match, error) {
		tracks, err := like(known, "track", asked.Song, asked.Count)
		return named("matches", each(tracks, track.match)), err
	})
}

//go:wasmexport nd_find_sonic_path
func sonicPath() int32 {
	type question struct {
		StartSong seed `json:"startSong"`
		EndSong   seed `json:"endSong"`
		Count     int  `json:"count"`
	}
	return withSettings(named("matches", []match{}), func(known settings, asked question) (map[string][]match, error) {
		ends := known.asked(max(asked.Count, 2))
		ends.Set("start", asked.StartSong.ID)
		ends.Set("end", asked.EndSong.ID)
		what := fmt.Sprintf("songs from %v to %v", asked.StartSong, asked.EndSong)
		tracks, err := search[track](&known.connection, "/api/v1/path", ends, what)
		return named("matches", each(tracks, track.match)), err
	})
}

// withSettings works with the settings, and says in the log when they are wrong.
func withSettings[In, Out any](empty Out, work func(settings, In) (Out, error)) int32 {
	return answer(empty, func(asked In) (Out, error) {
		known, err := readSettings()
		if err != nil {
			return empty, err
		}
		return work(known, asked)
	})
}

func like(known settings, kind string, one seed, count int) ([]track, error) {
	asked := known.mix(count)
	asked.Set(kind, cmp.Or(one.ID, one.Name))
	return search[track](&known.connection, "/api/v1/similar", asked, fmt.Sprintf("songs like the %s %v", kind, one))
}

func named[T any](name string, items []T) map[string][]T { return map[string][]T{name: items} }

// each returns what becomes of the items; JSON has no null for none of them.
func each[In, Out any](items []In, become func(In) Out) []Out {
	all := make([]Out, 0, len(items))
	for _, item := range items {
		all = append(all, become(item))
	}
	return all
}

func (one track) song() songRef {
	return songRef{one.ID, one.Title, one.Artist, one.Album, one.Duration}
}

func (one track) match() match { return match{one.song(), one.Score} }

// found is navembed's answer: results, best first, and what is missing from them.
type found[T any] struct {
	Results  []T      `json:"results"`
	Warnings []string `json:"warnings"`
}

// search asks for results, and says in the log how many there are and what is missing.
func search[T any](known *connection, path string, asked url.Values, what string) ([]T, error) {
	var answer found[T]
	if err := known.ask(path, asked, &answer); err != nil {
		return nil, err
	}
	said := append([]string{fmt.Sprintf("%d %s", len(answer.Results), what)}, answer.Warnings...)
	logInfo("navembed: " + strings.Join(said, "; "))
	return answer.Results, nil
}
