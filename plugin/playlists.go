//go:build playlists

// navembed's second plugin for Navidrome: brings playlists to their users. It is a file of its own, because an
// administrator has to choose its users before it can be enabled.
package main

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const (
	playlistsPath = "/api/v1/playlists"
	listenersPath = playlistsPath + "/listeners"
	everyMinutes  = "*/5 * * * *"
	mostStarred   = 200 // that navembed goes by
	// mark begins the comments of navembed's playlists, and the names of those that have no comment yet.
	mark = "Made by navembed: "
)

//go:embed manifest-playlists.json
var manifest []byte

//go:wasmimport extism:host/user scheduler_schedulerecurring
func scheduleAt(request uint64) uint64

//go:wasmimport extism:host/user subsonicapi_call
func subsonicAt(request uint64) uint64

// playlist waits for somebody who can bring it to its user; with a ServerID, that one is to be updated.
type playlist struct {
	ID       int      `json:"id"`
	User     string   `json:"user"`
	Name     string   `json:"name"`
	Comment  string   `json:"comment"`
	ServerID string   `json:"server_id"`
	TrackIDs []string `json:"track_ids"`
	MadeAt   string   `json:"made_at"`
}

// held is a playlist in Navidrome.
type held struct {
	ID, Name, Comment, Owner string
	Readonly                 bool
	ValidUntil               string // of smart ones
}

func main() {}

//go:wasmexport nd_on_init
func onInit() int32 {
	return answer(struct{}{}, func(struct{}) (struct{}, error) {
		schedule := map[string]string{"cronExpression": everyMinutes, "payload": "", "scheduleId": "playlists"}
		if err := call(scheduleAt, schedule, &struct{}{}); err != nil {
			return struct{}{}, err
		}
		known, err := readConnection()
		if err == nil {
			err = known.test()
		}
		return struct{}{}, err
	})
}

//go:wasmexport nd_scheduler_callback
func deliver() int32 {
	return answer(struct{}{}, func(struct{}) (struct{}, error) {
		known, err := readConnection()
		if err != nil {
			return struct{}{}, err
		}
		failed := known.tellOfListeners()
		var due struct{ Results []playlist }
		if err := known.ask(playlistsPath+"/pending", nil, &due); err != nil {
			return struct{}{}, err
		}
		for _, one := range due.Results {
			failed = errors.Join(failed, known.bring(one))
		}
		return struct{}{}, failed
	})
}

func readConnection() (connection, error) {
	known := connection{told: "playlists"}
	return known, mend(known.read(manifest))
}

// listener is a user of navembed's playlists, of whom only we can tell what follows.
type listener struct {
	User       string   `json:"user"`
	Favourites bool     `json:"favourites"`
	Libraries  []int    `json:"libraries"`
	Starred    []string `json:"starred"`
}

func (known *connection) tellOfListeners() (failed error) {
	var asked struct{ Results []listener }
	if err := known.ask(listenersPath, nil, &asked); err != nil {
		return err
	}
	for _, each := range asked.Results {
		err := each.look()
		if err == nil {
			err = known.tell(listenersPath, each)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// look finds out which libraries the user may see, and what he has starred, if that is of use.
func (one *listener) look() error {
	var told struct{ User struct{ Folder []int } }
	if err := subsonic(one.User, "getUser", url.Values{"username": {one.User}}, &told); err != nil {
		return err
	}
	one.Libraries, one.Starred = told.User.Folder, []string{}
	if !one.Favourites {
		return nil
	}
	type song struct{ ID, Starred string }
	var stars struct{ Starred2 struct{ Song []song } }
	err := subsonic(one.User, "getStarred2", url.Values{}, &stars)
	songs := stars.Starred2.Song
	slices.SortFunc(songs, func(one, other song) int { return strings.Compare(other.Starred, one.Starred) })
	for _, each := range songs[:min(len(songs), mostStarred)] {
		one.Starred = append(one.Starred, each.ID)
	}
	return err
}

// bring makes or updates a playlist, and tells navembed what became of it.
func (known *connection) bring(one playlist) error {
	told := map[string]string{"made_at": one.MadeAt}
	if id, err := one.write(); err != nil {
		told["problem"] = fmt.Sprintf("%.1000s", err)
		logError(fmt.Sprintf("navembed: playlist %q of %s: %v", one.Name, one.User, err))
	} else {
		told["server_id"] = id
		logInfo(fmt.Sprintf("navembed: playlist %q of %s has %d songs", one.Name, one.User, len(one.TrackIDs)))
	}
	return known.tell(fmt.Sprintf("%s/%d/delivered", playlistsPath, one.ID), told)
}

// tell sends navembed a value; it answers with no more than that it has heard.
func (known *connection) tell(path string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return known.request(path, httpRequest{Method: "POST", URL: known.address + path, Body: body}, &struct{}{})
}

// write brings the songs to Navidrome and returns the playlist's id. A new one is called after navembed until it has
// its comment, so one of whose making we have not heard the end is found again: nothing makes a second one.
func (one playlist) write() (string, error) {
	found, err := one.find()
	if err != nil {
		return "", err
	}
	songs, update := url.Values{"songId": one.TrackIDs}, url.Values{"comment": {one.Comment}}
	if found.ID == "" {
		songs.Set("name", mark+one.Name)
	} else {
		songs.Set("playlistId", found.ID)
	}
	if found.ID == "" || found.Name == mark+one.Name {
		update.Set("name", one.Name)
		update.Set("public", "false")
	}
	var written struct{ Playlist held }
	if err := subsonic(one.User, "createPlaylist", songs, &written); err != nil {
		return "", err
	}
	id := cmp.Or(found.ID, written.Playlist.ID)
	update.Set("playlistId", id)
	return id, subsonic(one.User, "updatePlaylist", update, &struct{}{})
}

// find returns the playlist that is to be updated: by its id, or of ours that by its name; an empty one for none.
func (one playlist) find() (found held, err error) {
	var all struct{ Playlists struct{ Playlist []held } }
	if err := subsonic(one.User, "getPlaylists", url.Values{}, &all); err != nil {
		return found, err
	}
	for _, each := range all.Playlists.Playlist {
		isOurs := each.Name == mark+one.Name || each.Name == one.Name && strings.HasPrefix(each.Comment, mark)
		if each.ID == one.ServerID || found.ID == "" && isOurs && each.isOf(one.User) {
			found = each
		}
		if each.ID == one.ServerID {
			break
		}
	}
	if found.ID != "" && (!found.isOf(one.User) || found.Readonly || found.ValidUntil != "") {
		err = fmt.Errorf("%s cannot change the playlist %s; it is left as it is", one.User, found.Name)
	}
	return found, err
}

func (one held) isOf(user string) bool { return strings.EqualFold(one.Owner, user) }

// subsonic asks Navidrome in the name of a user, and reads its answer into a value.
func subsonic(user, function string, asked url.Values, into any) error {
	asked.Set("u", user)
	var raw struct{ ResponseJSON string }
	if err := call(subsonicAt, map[string]string{"uri": function + "?" + asked.Encode()}, &raw); err != nil {
		return err
	}
	var told struct {
		Response json.RawMessage `json:"subsonic-response"`
	}
	if err := json.Unmarshal([]byte(raw.ResponseJSON), &told); err != nil {
		return err
	}
	var failed struct {
		Error *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal(told.Response, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return errors.New(cmp.Or(strings.TrimSpace(failed.Error.Message), fmt.Sprintf("error %d", failed.Error.Code)))
	}
	return json.Unmarshal(told.Response, into)
}
