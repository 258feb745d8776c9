//go:build playlists

// navembed's second plugin for Navidrome: brings playlists to their users. It is a file of its own, because an
// administrator has to choose its users before it can be enabled.
package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

const (
	playlistsPath = "/api/v1/playlists"
	everyMinutes  = "*/5 * * * *"
	notFound      = 70 // Subsonic's code
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
		var due struct{ Results []playlist }
		if err := known.ask(playlistsPath+"/pending", nil, &due); err != nil {
			return struct{}{}, err
		}
		for _, one := range due.Results {
			if err := known.bring(one); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
}

func readConnection() (connection, error) {
	known := connection{told: "playlists"}
	return known, mend(known.read(manifest))
}

// bring makes or updates a playlist, and tells navembed what became of it.
func (known *connection) bring(one playlist) error {
	told := map[string]string{}
	if id, err := one.write(); err != nil {
		told["problem"] = err.Error()
		logError(fmt.Sprintf("navembed: playlist %q of %s: %v", one.Name, one.User, err))
	} else {
		told["server_id"] = id
		logInfo(fmt.Sprintf("navembed: playlist %q of %s has %d songs", one.Name, one.User, len(one.TrackIDs)))
	}
	body, err := json.Marshal(told)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("%s/%d/delivered", playlistsPath, one.ID)
	return known.request(path, httpRequest{Method: "POST", URL: known.address + path, Body: body}, &struct{}{})
}

// write brings the songs to the server and returns the playlist's id; one that was deleted there is made anew.
func (one playlist) write() (string, error) {
	id, code, err := one.ServerID, notFound, error(nil)
	if id != "" {
		_, code, err = one.subsonic("createPlaylist", url.Values{"songId": one.TrackIDs, "playlistId": {id}})
	}
	isNew := code == notFound
	if isNew {
		id, _, err = one.subsonic("createPlaylist", url.Values{"songId": one.TrackIDs, "name": {one.Name}})
	}
	if err != nil {
		return "", err
	}
	asked := url.Values{"playlistId": {id}, "comment": {one.Comment}}
	if isNew {
		asked.Set("public", "false")
	}
	_, _, err = one.subsonic("updatePlaylist", asked)
	return id, err
}

// subsonic asks Navidrome in the name of the playlist's user; returns a playlist's id and the code of an error.
func (one playlist) subsonic(function string, asked url.Values) (string, int, error) {
	asked.Set("u", one.User)
	var raw struct{ ResponseJSON string }
	if err := call(subsonicAt, map[string]string{"uri": function + "?" + asked.Encode()}, &raw); err != nil {
		return "", 0, err
	}
	var told struct {
		Response struct {
			Playlist struct{ ID string }
			Error    *struct {
				Code    int
				Message string
			}
		} `json:"subsonic-response"`
	}
	if err := json.Unmarshal([]byte(raw.ResponseJSON), &told); err != nil {
		return "", 0, err
	}
	if failed := told.Response.Error; failed != nil {
		return "", failed.Code, errors.New(failed.Message)
	}
	return told.Response.Playlist.ID, 0, nil
}
