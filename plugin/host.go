// What the host gives a plugin: input, output, configuration, log and HTTP, by the functions of Extism and Navidrome.
package main

import (
	"encoding/json"
	"errors"
)

//go:wasmimport extism:host/env input_length
func inputLength() uint64

//go:wasmimport extism:host/env input_load_u8
func inputByte(at uint64) uint32

//go:wasmimport extism:host/env alloc
func allocate(length uint64) uint64

//go:wasmimport extism:host/env free
func free(at uint64)

//go:wasmimport extism:host/env length
func lengthOf(at uint64) uint64

//go:wasmimport extism:host/env load_u8
func loadByte(at uint64) uint32

//go:wasmimport extism:host/env store_u8
func storeByte(at uint64, value uint32)

//go:wasmimport extism:host/env output_set
func setOutput(at, length uint64)

//go:wasmimport extism:host/env config_get
func configAt(name uint64) uint64

//go:wasmimport extism:host/env log_info
func logInfoAt(message uint64)

//go:wasmimport extism:host/env log_error
func logErrorAt(message uint64)

//go:wasmimport extism:host/user http_send
func sendAt(request uint64) uint64

// input returns what the function was called with.
func input() []byte {
	bytes := make([]byte, inputLength())
	for place := range bytes {
		bytes[place] = byte(inputByte(uint64(place)))
	}
	return bytes
}

// output is the function's answer.
func output(bytes []byte) { setOutput(share(bytes), uint64(len(bytes))) }

// config returns a setting; empty when it is not set.
func config(name string) string { return string(take(configAt(share([]byte(name))))) }

func logInfo(message string) { logInfoAt(share([]byte(message))) }

func logError(message string) { logErrorAt(share([]byte(message))) }

// httpRequest is what http_send takes; JSON has its body in base64.
type httpRequest struct {
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers"`
	Body      []byte            `json:"body,omitempty"`
	TimeoutMs int               `json:"timeoutMs"`
}

type httpResult struct {
	StatusCode int    `json:"statusCode"`
	Body       []byte `json:"body"`
}

// send asks over HTTP. An error means that there was no answer.
func send(request httpRequest) (httpResult, error) {
	var answer struct{ Result *httpResult }
	if err := call(sendAt, map[string]httpRequest{"request": request}, &answer); err != nil {
		return httpResult{}, err
	}
	if answer.Result == nil {
		return httpResult{}, errors.New("the server gave no result")
	}
	return *answer.Result, nil
}

// call asks one of Navidrome's functions, which take and give JSON, and reads its answer into a value.
func call(function func(uint64) uint64, request, into any) error {
	asked, err := json.Marshal(request)
	if err != nil {
		return err
	}
	reply := take(function(share(asked)))
	var failed struct{ Error string }
	if err := json.Unmarshal(reply, &failed); err != nil {
		return err
	}
	if failed.Error != "" {
		return errors.New(failed.Error)
	}
	return json.Unmarshal(reply, into)
}

// share copies bytes to where the host sees them, and returns where.
func share(bytes []byte) uint64 {
	at := allocate(uint64(len(bytes)))
	for place, value := range bytes {
		storeByte(at+uint64(place), uint32(value))
	}
	return at
}

// take returns what the host has left for us, and gives its place back; nothing at 0.
func take(at uint64) []byte {
	if at == 0 {
		return nil
	}
	bytes := make([]byte, lengthOf(at))
	for place := range bytes {
		bytes[place] = byte(loadByte(at + uint64(place)))
	}
	free(at)
	return bytes
}
