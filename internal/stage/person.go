// Package stage lets people act before a running server as they would at a screen: over HTTP, with
// cookies, with the operations of the pages, and with a passkey on their device. The demonstration
// and the tests of the whole server share it.
package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// Person is one person at a screen. Its methods are for one goroutine.
type Person struct {
	Name string // on the simulated Bitbucket
	key  *passkeytest.Authenticator
	// spare is the second passkey, if the person is making one or has it.
	spare *spare
	// origin of the server
	origin string
	http   *http.Client
}

// NewPerson makes somebody with a new browser and a new authenticator, before the server at origin.
func NewPerson(name, origin string) (*Person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &Person{
		Name: name, origin: origin, key: passkeytest.New(origin),
		http: &http.Client{Jar: jar, Timeout: 30 * time.Second},
	}, nil
}

// Get reads a page or file of the server.
func (p *Person) Get(ctx context.Context, path string) ([]byte, error) {
	_, body, err := p.do(ctx, http.MethodGet, p.origin+path, "", "", nil)
	return body, err
}

// do makes one request and follows its redirects; at is where it ended.
func (p *Person) do(ctx context.Context, method, address, origin, contentType string, body io.Reader) (at *url.URL, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
		request.Header.Set("Origin", origin)
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := p.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	text, err = io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	at = response.Request.URL
	if err == nil && response.StatusCode >= 400 {
		err = fmt.Errorf("%s %s answers %s: %s", method, at.Path, response.Status, strings.TrimSpace(string(text[max(0, len(text)-500):])))
	}
	return at, text, err
}

// afterwards is where Bitbucket's consent leads back to: no page, since those may not be built.
const afterwards = "/livez"

// SignIn signs in with Bitbucket.
func (p *Person) SignIn(ctx context.Context) error {
	return p.consent(ctx, p.origin+"/auth/sign-in?return_to="+afterwards)
}

// consent walks through Bitbucket's consent page: the page says who, the button says Allow.
func (p *Person) consent(ctx context.Context, address string) error {
	at, _, err := p.do(ctx, http.MethodGet, address, "", "", nil)
	if err != nil {
		return err
	}
	form := url.Values{"person": {p.Name}, "decision": {"allow"}}
	_, _, err = p.do(ctx, http.MethodPost, at.String(), at.Scheme+"://"+at.Host, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	return err
}

// Refusal is why the server did not do what was asked.
type Refusal struct{ Code, Message string }

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// refusals is the part of a payload that says why nothing was changed.
type refusals []Refusal

func (r refusals) err() error {
	if len(r) == 0 {
		return nil
	}
	return &r[0]
}

// Ask sends an operation of the pages, by its name, and reads the answer into out. The server takes
// no other operations from a browser. An error that the server answers is a [Refusal].
func (p *Person) Ask(ctx context.Context, operation string, variables, out any) error {
	id, err := Operation(operation)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"documentId": id, "operationName": operation, "variables": variables})
	if err != nil {
		return err
	}
	_, text, err := p.do(ctx, http.MethodPost, p.origin+"/graphql?"+operation, p.origin, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Extensions struct{ Code string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		return &Refusal{Code: answer.Errors[0].Extensions.Code, Message: answer.Errors[0].Message}
	}
	return json.Unmarshal(answer.Data, out)
}

// Operation finds the digest under which the pages send an operation, by its name.
func Operation(operation string) (string, error) {
	digests, err := operations()
	if err != nil {
		return "", err
	}
	digest, ok := digests[operation]
	if !ok {
		return "", fmt.Errorf("the pages have no operation %s", operation)
	}
	return digest, nil
}

var operationName = regexp.MustCompile(`\b(?:query|mutation|subscription) (\w+)`)

// operations are the digests of the pages' operations, by name.
var operations = sync.OnceValues(func() (map[string]string, error) {
	var documents map[string]string
	if err := json.Unmarshal(frontend.PersistedDocuments(), &documents); err != nil {
		return nil, err
	}
	digests := map[string]string{}
	for digest, text := range documents {
		if name := operationName.FindStringSubmatch(text); name != nil {
			digests[name[1]] = digest
		}
	}
	return digests, nil
})

func input(fields map[string]any) map[string]any { return map[string]any{"input": fields} }
