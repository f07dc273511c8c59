package graph

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// maxBody bounds a request, in bytes. Assertions and rules fit many times over.
const maxBody = 256 << 10

// request is the body of POST /graphql: an operation by its text, by the SHA-256 of a registered one,
// or both, as clients of persisted operations send it.
type request struct {
	Query         string         `json:"query"`
	OperationName string         `json:"operationName"`
	Variables     map[string]any `json:"variables"`
	DocumentID    string         `json:"documentId"`
	Extensions    struct {
		PersistedQuery struct {
			SHA256Hash string `json:"sha256Hash"`
		} `json:"persistedQuery"`
	} `json:"extensions"`
}

func (r *request) hash() string {
	if r.DocumentID != "" {
		return r.DocumentID
	}
	return r.Extensions.PersistedQuery.SHA256Hash
}

// readRequest reads the body: one JSON object, nothing after it.
func readRequest(w http.ResponseWriter, r *http.Request) (*request, *requestError) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refused(codeBadRequest, "Ask with POST.").with(http.StatusMethodNotAllowed)
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, refused(codeBadRequest, "Content-Type must be application/json.").with(http.StatusUnsupportedMediaType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, refused(codeTooLarge, "A request has at most %d bytes.", maxBody)
		}
		return nil, refused(codeBadRequest, "The request's body could not be read.")
	}
	text := strings.TrimLeft(string(body), " \t\r\n")
	if strings.HasPrefix(text, "[") {
		return nil, refused(codeBadRequest, "One request holds one operation; batches are not answered.")
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var read request
	if err := decoder.Decode(&read); err != nil {
		return nil, refused(codeBadRequest, "The body is not a GraphQL request in JSON.")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, refused(codeBadRequest, "Something follows the request's JSON object.")
	}
	if read.Query == "" && read.hash() == "" {
		return nil, refused(codeBadRequest, "The request names no operation: query is missing.")
	}
	return &read, nil
}

// wantsStream tells whether the caller came in by the door for subscriptions: it accepts an event
// stream and no JSON. Clients that list both ask for JSON.
func wantsStream(r *http.Request) bool {
	stream := false
	for _, header := range r.Header.Values("Accept") {
		for _, part := range strings.Split(header, ",") {
			switch media, _, _ := mime.ParseMediaType(part); media {
			case "text/event-stream":
				stream = true
			case "application/json", "application/graphql-response+json", "application/*", "*/*":
				return false
			}
		}
	}
	return stream
}
