package main

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
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/frontend"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
)

// browser is one person at a screen: cookies, and a passkey on the device.
type browser struct {
	name   string
	origin string // of the server
	http   *http.Client
	key    *passkeytest.Authenticator
}

func newBrowser(name, origin string) (*browser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &browser{
		name: name, origin: origin, key: passkeytest.New(origin),
		http: &http.Client{Jar: jar, Timeout: 30 * time.Second},
	}, nil
}

func (b *browser) do(ctx context.Context, method, address, origin, contentType string, body io.Reader) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
		request.Header.Set("Origin", origin)
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := b.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(response.Body)
	err = errors.Join(err, response.Body.Close())
	if err == nil && response.StatusCode >= 400 {
		err = fmt.Errorf("%s %s answers %s: %s", method, response.Request.URL.Path, response.Status, strings.TrimSpace(string(last(text, 500))))
	}
	return response, text, err
}

// consent walks through Bitbucket's consent page as this person: the page says who, the button
// says Allow.
func (b *browser) consent(ctx context.Context, address string) error {
	page, _, err := b.do(ctx, http.MethodGet, address, "", "", nil)
	if err != nil {
		return err
	}
	at := page.Request.URL
	form := url.Values{"person": {b.name}, "decision": {"allow"}}
	_, _, err = b.do(ctx, http.MethodPost, at.String(), at.Scheme+"://"+at.Host, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	return err
}

func (b *browser) signIn(ctx context.Context) error {
	return b.consent(ctx, b.origin+"/auth/sign-in?return_to=/")
}

// ask sends an operation of the pages, by its name, and reads the answer into out. The server takes
// no other operations from a browser.
func (b *browser) ask(ctx context.Context, operation string, variables, out any) error {
	id, err := registered(operation)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"documentId": id, "operationName": operation, "variables": variables})
	if err != nil {
		return err
	}
	_, text, err := b.do(ctx, http.MethodPost, b.origin+"/graphql?"+operation, b.origin, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		return errors.New(answer.Errors[0].Message)
	}
	return json.Unmarshal(answer.Data, out)
}

// registered finds the digest under which the pages send an operation.
func registered(operation string) (string, error) {
	var documents map[string]string
	if err := json.Unmarshal(frontend.PersistedDocuments(), &documents); err != nil {
		return "", err
	}
	for id, text := range documents {
		for _, kind := range []string{"query ", "mutation "} {
			if _, after, found := strings.Cut(" "+text, " "+kind+operation); found && strings.HasPrefix(strings.TrimLeft(after, " "), "(") || found && strings.HasPrefix(after, " {") {
				return id, nil
			}
		}
	}
	return "", fmt.Errorf("the pages have no operation %s", operation)
}

// userErrors is the part of a payload that says why nothing was changed.
type userErrors []struct{ Code, Message string }

func (u userErrors) err() error {
	if len(u) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", u[0].Code, u[0].Message)
}
