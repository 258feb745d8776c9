package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

const (
	// patienceMs is shorter than what players wait: a late answer is of no use to them.
	patienceMs = 4500
	// Of HTTP; the whole package would make the plugin twice as large.
	ok, unauthorized, forbidden = 200, 401, 403
)

// connection is how to reach navembed, by the settings and the manifest's defaults.
type connection struct {
	address string
	token   string
	// told is what navembed shows its administrator of the other settings.
	told     string
	version  string
	defaults defaults
}

type defaults map[string]struct{ Default json.RawMessage }

// read returns what is wrong with the settings.
func (known *connection) read(manifest []byte) (problems []string) {
	var stated struct {
		Version string
		Config  struct {
			Schema struct{ Properties defaults }
		}
	}
	if err := json.Unmarshal(manifest, &stated); err != nil {
		problems = append(problems, err.Error())
	}
	known.version, known.defaults = stated.Version, stated.Config.Schema.Properties
	known.address = strings.TrimRight(strings.Trim(known.value("address"), `"`), "/")
	known.token = known.value("token")
	if !strings.HasPrefix(known.address, "http://") && !strings.HasPrefix(known.address, "https://") {
		problems = append(problems, fmt.Sprintf("address must begin with http:// or https://, but is %q", known.address))
	}
	if known.token == "" {
		problems = append(problems, "token is empty; make one in navembed's console (Access, Tokens)")
	}
	return problems
}

// mend is the error of settings that are wrong.
func mend(problems []string) error {
	if problems == nil {
		return nil
	}
	return fmt.Errorf("mend the plugin's settings: %s", strings.Join(problems, "; "))
}

// value returns a setting, or its default as JSON.
func (known *connection) value(name string) string {
	if given := strings.TrimSpace(config(name)); given != "" {
		return given
	}
	return string(known.defaults[name].Default)
}

// ask gets an answer of navembed's API and reads it into a value.
func (known *connection) ask(path string, asked url.Values, into any) error {
	return known.request(path, httpRequest{Method: "GET", URL: known.address + path + "?" + asked.Encode()}, into)
}

// request sends it with what every request has; navembed shows its administrator who calls, with which settings.
func (known *connection) request(path string, request httpRequest, into any) error {
	address := known.address + path
	request.TimeoutMs = patienceMs
	request.Headers = map[string]string{
		"Authorization": "Bearer " + known.token,
		"Content-Type":  "application/json",
		"User-Agent":    fmt.Sprintf("navembed-plugin/%s (%s)", known.version, known.told),
	}
	reply, err := send(request)
	if err != nil {
		return fmt.Errorf("no answer from %s: %w. Is navembed running, and is the address right?", address, err)
	}
	if reply.StatusCode == unauthorized || reply.StatusCode == forbidden {
		return fmt.Errorf("%s refuses the token %s; make one in navembed's console (Access, Tokens), and set it in the "+
			"plugin's settings", known.address, problem(reply.Body))
	}
	if reply.StatusCode != ok {
		return fmt.Errorf("%s answers %d %s", address, reply.StatusCode, problem(reply.Body))
	}
	if err := json.Unmarshal(reply.Body, into); err != nil {
		return fmt.Errorf("%s does not answer as navembed does: %w", address, err)
	}
	return nil
}

// problem returns the sentence of an error of navembed's; of others nothing.
func problem(body []byte) string {
	var told struct{ Detail string }
	_ = json.Unmarshal(body, &told)
	return strings.TrimSpace(told.Detail)
}

// answer reads the input, works and gives the output; the empty one when something went wrong.
func answer[In, Out any](empty Out, work func(In) (Out, error)) int32 {
	var asked In
	out := empty
	err := json.Unmarshal(input(), &asked)
	if err == nil {
		out, err = work(asked)
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

// test asks for nothing but an answer, and says in the log whether there was one.
func (known *connection) test() error {
	err := known.ask("/api/v1/plugin/status", nil, &struct{}{})
	if err == nil {
		logInfo("navembed: connected to " + known.address)
	}
	return err
}
