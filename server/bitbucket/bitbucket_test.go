package bitbucket_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

const (
	token         = "tok-3f9c2b71-secret"
	workspaceUUID = "0b1c2d3e-0000-4000-8000-00000000000a"
	repoUUID      = "0b1c2d3e-0000-4000-8000-00000000000b"
	userUUID      = "0b1c2d3e-0000-4000-8000-00000000000c"
	hookUUID      = "0b1c2d3e-0000-4000-8000-00000000000d"
	headHash      = "1111111111111111111111111111111111111111"
	destHash      = "2222222222222222222222222222222222222222"

	repoPath = "/2.0/repositories/%7B" + workspaceUUID + "%7D/%7B" + repoUUID + "%7D"
)

// received is a request as the server saw it.
type received struct {
	Method string
	Path   string // escaped
	Query  string
	Header http.Header
	Body   string
}

// server answers every request with handle and remembers what came.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	requests []received
}

func serve(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, received{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Clone(), string(body)})
		s.mu.Unlock()
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.requests...)
}

func (s *server) client(config bitbucket.Config) *bitbucket.Client {
	config.BaseURL = s.URL
	return bitbucket.New(config).As(token, "connection-1", bitbucket.Foreground)
}

// answer is a handler that always gives the same answer.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func answerJSON(body string) http.HandlerFunc { return answer(http.StatusOK, "application/json", body) }

// asError demands that err is this package's error.
func asError(t *testing.T, err error) *bitbucket.Error {
	t.Helper()
	failure, ok := errors.AsType[*bitbucket.Error](err)
	if !ok {
		t.Fatalf("error %v (%T), want a *bitbucket.Error", err, err)
	}
	return failure
}

// collect reads a sequence to its end or first error.
func collect[T any](sequence iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for value, err := range sequence {
		if err != nil {
			return all, err
		}
		all = append(all, value)
	}
	return all, nil
}

// must takes the value of a call that has to succeed.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// recording is the body of a recorded answer. Mappings of a mock server are
// unwrapped. The test is skipped if the recordings are not there at all; a
// single missing file fails it.
func recording(t *testing.T, name string) []byte {
	t.Helper()
	folder := recordings(t)
	raw, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	var mapping struct {
		Request  json.RawMessage
		Response struct {
			JSONBody json.RawMessage `json:"jsonBody"`
			Body     *string         `json:"body"`
		}
	}
	if json.Unmarshal(raw, &mapping) == nil && mapping.Request != nil {
		if mapping.Response.Body != nil {
			return []byte(*mapping.Response.Body)
		}
		return mapping.Response.JSONBody
	}
	return raw
}

// recordings is the folder of recorded answers beside the repository.
func recordings(t *testing.T) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(root)
		if parent == root {
			t.Fatal("no go.mod above the test")
		}
		root = parent
	}
	folder := filepath.Join(root, "..", "shared", "testdata")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the recorded answers are not there: ../shared/testdata")
	}
	return folder
}

// replay serves one recording for every request.
func replay(t *testing.T, name string) *bitbucket.Client {
	t.Helper()
	body := string(recording(t, name))
	return serve(t, answerJSON(body)).client(bitbucket.Config{})
}

func contains(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q does not contain %q", text, part)
	}
}
