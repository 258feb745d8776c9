//go:build !playlists

package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

const mostSongs = 500

//go:embed manifest.json
var manifest []byte

// settings are what an administrator has set in Navidrome; what is not set has the manifest's default.
type settings struct {
	connection
	models     []string
	diversity  float64
	perArtist  int
	maxMinutes int
}

func readSettings() (settings, error) {
	known := settings{}
	problems := known.read(manifest)
	parse := func(name string, into any) {
		if err := json.Unmarshal([]byte(known.value(name)), into); err != nil {
			problems = append(problems, fmt.Sprintf("%s cannot be %q", name, known.value(name)))
		}
	}
	parse("models", &known.models)
	if len(known.models) == 0 {
		problems = append(problems, "choose one of the models at least")
	}
	parse("diversity", &known.diversity)
	parse("per_artist", &known.perArtist)
	parse("max_minutes", &known.maxMinutes)
	known.told = fmt.Sprintf(
		"models=%s; diversity=%g; per_artist=%d; max_minutes=%d",
		strings.Join(known.models, ","), known.diversity, known.perArtist, known.maxMinutes,
	)
	return known, mend(problems)
}

// mix returns what a question for songs says of the settings.
func (known settings) mix(count int) url.Values {
	asked := known.asked(count)
	asked.Set("diversity", strconv.FormatFloat(known.diversity, 'g', -1, 64))
	asked.Set("per_artist", strconv.Itoa(known.perArtist))
	asked.Set("max_duration", strconv.Itoa(60*known.maxMinutes))
	return asked
}

// asked returns what every question says: how many, and which models answer.
func (known settings) asked(count int) url.Values {
	return url.Values{"limit": {strconv.Itoa(min(max(count, 1), mostSongs))}, "models": known.models}
}
