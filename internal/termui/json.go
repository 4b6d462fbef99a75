package termui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// JSONWriter writes messages for programs: one JSON object a line, whose first
// key is "message_type". It may be used from many goroutines; each line is one
// Write.
//
// JSON is UTF-8 and file names are bytes. As encoding/json does, bytes that are
// not UTF-8 become U+FFFD in strings; see PathFields for how a path arrives
// whole.
type JSONWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// NewJSONWriter returns a JSONWriter to w, which is stdout.
func NewJSONWriter(w io.Writer) *JSONWriter { return &JSONWriter{w: w} }

// Write writes v, which must marshal to a JSON object without a key
// "message_type", as a message of the given type. A nil v is an object without
// keys.
func (j *JSONWriter) Write(messageType string, v any) error {
	line, err := message(messageType, v)
	if err != nil {
		return fmt.Errorf("write message %q: %w", messageType, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.w.Write(line); err != nil {
		return fmt.Errorf("write message %q: %w", messageType, err)
	}
	return nil
}

// message returns the line with the type put in front of v's own keys.
func message(messageType string, v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // "<" is for a web page to escape, not for us
	if err := enc.Encode(messageType); err != nil {
		return nil, err
	}
	head := append([]byte(`{"message_type":`), bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
	if v == nil {
		return append(head, "}\n"...), nil
	}
	b.Reset()
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	body, ok := bytes.CutPrefix(b.Bytes(), []byte("{"))
	if !ok {
		return nil, fmt.Errorf("%T is not a JSON object but %.20s", v, b.Bytes())
	}
	if !bytes.HasPrefix(body, []byte("}")) {
		head = append(head, ',')
	}
	return append(head, body...), nil
}

// EncodedPath is a path in a message; embed it in the message's struct.
type EncodedPath struct {
	// Path is the path, with U+FFFD in place of what is not UTF-8.
	Path string `json:"path"`
	// B64 is the path's exact bytes, in base64, if Path is not.
	B64 []byte `json:"path_b64,omitempty"`
}

// PathFields returns a path as the key "path" and, only if it is not valid UTF-8,
// also its bytes as "path_b64".
func PathFields(path string) EncodedPath {
	e := EncodedPath{Path: path}
	if !utf8.ValidString(path) {
		e.B64 = []byte(path)
	}
	return e
}
