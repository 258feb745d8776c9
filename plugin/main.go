// navembed's plugin for Navidrome: what players ask for similar music is answered by navembed.
//
// Each function takes and gives JSON. What goes wrong is an empty answer and a line in the log: Navidrome would ask
// again and again after an error.
package main

import (
	"encoding/json"
	"fmt"
	"net/url"
)

const similarPath = "/api/v1/similar"

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

type songs struct {
	Songs []songRef `json:"songs"`
}

type artists struct {
	Artists []artist `json:"artists"`
}

type matches struct {
	Matches []match `json:"matches"`
}

func main() {}

//go:wasmexport nd_on_init
func onInit() int32 {
	return answer(struct{}{}, func(known settings, _ struct{}) (struct{}, error) {
		err := ask(known, "/api/v1/plugin/status", nil, &struct{}{})
		if err == nil {
			logInfo("navembed: connected to " + known.address)
		}
		return struct{}{}, err
	})
}

//go:wasmexport nd_get_similar_songs_by_track
func similarSongsByTrack() int32 { return similarSongs("track") }

//go:wasmexport nd_get_similar_songs_by_album
func similarSongsByAlbum() int32 { return similarSongs("album") }

//go:wasmexport nd_get_similar_songs_by_artist
func similarSongsByArtist() int32 { return similarSongs("artist") }

func similarSongs(kind string) int32 {
	return answer(songs{[]songRef{}}, func(known settings, one seed) (songs, error) {
		tracks, err := like(known, kind, one, one.Count)
		return songs{each(tracks, track.song)}, err
	})
}

//go:wasmexport nd_get_similar_artists
func similarArtists() int32 {
	return answer(artists{[]artist{}}, func(known settings, one seed) (artists, error) {
		asked := known.asked(one.Limit)
		asked.Set("artist", idOrName(one))
		found, err := search[artist](known, "/api/v1/artists/similar", asked, fmt.Sprintf("artists like %v", one))
		return artists{each(found, func(one artist) artist { return one })}, err
	})
}

//go:wasmexport nd_get_sonic_similar_tracks
func sonicSimilarTracks() int32 {
	type question struct {
		Song  seed `json:"song"`
		Count int  `json:"count"`
	}
	return answer(matches{[]match{}}, func(known settings, asked question) (matches, error) {
		tracks, err := like(known, "track", asked.Song, asked.Count)
		return matches{each(tracks, track.match)}, err
	})
}

//go:wasmexport nd_find_sonic_path
func sonicPath() int32 {
	type question struct {
		StartSong seed `json:"startSong"`
		EndSong   seed `json:"endSong"`
		Count     int  `json:"count"`
	}
	return answer(matches{[]match{}}, func(known settings, asked question) (matches, error) {
		ends := url.Values{"start": {asked.StartSong.ID}, "end": {asked.EndSong.ID}, "model": known.models[:1]}
		ends.Set("limit", known.asked(max(asked.Count, 2)).Get("limit"))
		what := fmt.Sprintf("songs from %v to %v", asked.StartSong, asked.EndSong)
		tracks, err := search[track](known, "/api/v1/path", ends, what)
		return matches{each(tracks, track.match)}, err
	})
}

// answer reads the input, works and gives the output; the empty one when something went wrong.
func answer[In, Out any](empty Out, work func(settings, In) (Out, error)) int32 {
	var asked In
	known, err := readSettings()
	if err == nil {
		err = json.Unmarshal(input(), &asked)
	}
	out := empty
	if err == nil {
		out, err = work(known, asked)
	}
	if err != nil {
		logError("navembed: " + err.Error())
		out = empty
	}
	written, err := json.Marshal(out)
	if err != nil {
		logError("navembed: " + err.Error())
		return 1
	}
	output(written)
	return 0
}

func like(known settings, kind string, one seed, count int) ([]track, error) {
	asked := known.mix(count)
	asked.Set(kind, idOrName(one))
	return search[track](known, similarPath, asked, fmt.Sprintf("songs like the %s %v", kind, one))
}

func idOrName(one seed) string {
	if one.ID != "" {
		return one.ID
	}
	return one.Name
}

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

func (one track) match() match {
	return match{one.song(), one.Score}
}
