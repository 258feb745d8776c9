package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

//go:embed manifest.json
var manifest []byte

// settings are what an administrator has set in Navidrome; what is not set has the manifest's default.
type settings struct {
	address    string
	token      string
	models     []string
	diversity  float64
	perArtist  int
	maxMinutes int
	version    string
}

func readSettings() (settings, error) {
	var stated struct {
		Version string
		Config  struct {
			Schema struct {
				Properties map[string]struct{ Default json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(manifest, &stated); err != nil {
		return settings{}, err
	}
	known := settings{version: stated.Version}
	value := func(name string) string {
		if given := strings.TrimSpace(config(name)); given != "" {
			return given
		}
		return string(stated.Config.Schema.Properties[name].Default)
	}
	known.address = strings.TrimRight(strings.Trim(value("address"), `"`), "/")
	known.token = value("token")
	var problems []string
	parse := func(name string, into any) {
		if err := json.Unmarshal([]byte(value(name)), into); err != nil {
			problems = append(problems, fmt.Sprintf("%s cannot be %q", name, value(name)))
		}
	}
	parse("models", &known.models)
	parse("diversity", &known.diversity)
	parse("per_artist", &known.perArtist)
	parse("max_minutes", &known.maxMinutes)
	if !strings.HasPrefix(known.address, "http://") && !strings.HasPrefix(known.address, "https://") {
		problems = append(problems, fmt.Sprintf("address must begin with http:// or https://, but is %q", known.address))
	}
	if known.token == "" {
		problems = append(problems, "token is empty; make one in navembed's console (Access, Tokens), with the scope read")
	}
	if problems != nil {
		return known, fmt.Errorf("mend the plugin's settings: %s", strings.Join(problems, "; "))
	}
	return known, nil
}

// agent tells navembed who calls, with which settings: it shows both to its administrator.
func (known settings) agent() string {
	return fmt.Sprintf(
		"navembed-plugin/%s (models=%s; diversity=%g; per_artist=%d; max_minutes=%d)",
		known.version, strings.Join(known.models, ","), known.diversity, known.perArtist, known.maxMinutes,
	)
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
