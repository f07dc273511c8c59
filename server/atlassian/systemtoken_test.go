package atlassian_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
)

func TestSystemToken(t *testing.T) {
	t.Parallel()
	system := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
	}
	at := func(d time.Duration) string { return fmt.Sprintf(`{"exp":%d,"scope":"anything"}`, now.Add(d).Unix()) }
	for name, test := range map[string]struct {
		values []string
		lives  time.Duration // 0: it is left out
	}{
		"two hours":              {[]string{system(at(2 * time.Hour))}, 2 * time.Hour},
		"four hours":             {[]string{system(at(4 * time.Hour))}, 4 * time.Hour},
		"for ever":               {[]string{system(at(1000 * time.Hour))}, 4 * time.Hour},
		"with padding":           {[]string{"e30." + base64.URLEncoding.EncodeToString([]byte(at(2*time.Hour))) + ".c2ln"}, 2 * time.Hour},
		"none":                   {nil, 0},
		"empty":                  {[]string{""}, 0},
		"two":                    {[]string{system(at(time.Hour)), system(at(time.Hour))}, 0},
		"over":                   {[]string{system(at(0))}, 0},
		"without end":            {[]string{system(`{}`)}, 0},
		"an end in words":        {[]string{system(`{"exp":"soon"}`)}, 0},
		"an end with a fraction": {[]string{system(`{"exp":1e3}`)}, 0},
		"no JSON":                {[]string{system(`exp`)}, 0},
		"no base64":              {[]string{"e30.?.c2ln"}, 0},
		"opaque":                 {[]string{"0123456789abcdef"}, 0},
		"a line break":           {[]string{system(at(time.Hour)) + "\n"}, 0},
		"huge":                   {[]string{system(at(time.Hour)) + strings.Repeat("x", 16<<10)}, 0},
	} {
		header := http.Header{"X-Forge-Oauth-System": test.values}
		token, expires := atlassian.SystemToken(header, now)
		switch {
		case test.lives == 0 && (token != "" || !expires.IsZero()):
			t.Errorf("%s: believed until %v", name, expires)
		case test.lives != 0 && (token != test.values[0] || !expires.Equal(now.Add(test.lives))):
			t.Errorf("%s: until %v, want %v", name, expires, now.Add(test.lives))
		}
	}
}
