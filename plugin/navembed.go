package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

const (
	mostSongs = 500
	// patienceMs is shorter than what players wait: a late answer is of no use to them.
	patienceMs = 4500
	// Of HTTP; the whole package would make the plugin twice as large.
	ok, unauthorized, forbidden = 200, 401, 403
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

// found is navembed's answer: results, best first, and what is missing from them.
type found[T any] struct {
	Results  []T      `json:"results"`
	Warnings []string `json:"warnings"`
}

// ask gets an answer of navembed's API and reads it into a value.
func ask(known settings, path string, asked url.Values, into any) error {
	address := known.address + path
	reply, err := send(httpRequest{
		Method:    "GET",
		URL:       address + "?" + asked.Encode(),
		Headers:   map[string]string{"Authorization": "Bearer " + known.token, "User-Agent": known.agent()},
		TimeoutMs: patienceMs,
	})
	if err != nil {
		return fmt.Errorf("no answer from %s: %w. Is navembed running, and is the address right?", address, err)
	}
	if reply.StatusCode == unauthorized || reply.StatusCode == forbidden {
		return fmt.Errorf("%s refuses the token; make one in navembed's console (Access, Tokens), with the scope read, "+
			"and set it in the plugin's settings", known.address)
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

// search asks for results, and says in the log how many there are and what is missing.
func search[T any](known settings, path string, asked url.Values, what string) ([]T, error) {
	var answer found[T]
	if err := ask(known, path, asked, &answer); err != nil {
		return nil, err
	}
	said := append([]string{fmt.Sprintf("%d %s", len(answer.Results), what)}, answer.Warnings...)
	logInfo("navembed: " + strings.Join(said, "; "))
	return answer.Results, nil
}
