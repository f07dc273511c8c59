package atlassian

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// maxTokenLife is the longest that a system token is taken to live, whatever it says.
const maxTokenLife = 4 * time.Hour

// SystemToken is the token that acts for the app, which comes with invocations, and when it ends; ""
// where none comes that is any use. It must be believed only with a good invocation token. Of the
// token itself nothing is read but its end, and it must reach no log.
func SystemToken(header http.Header, now time.Time) (string, time.Time) {
	values := header.Values("X-Forge-Oauth-System")
	if len(values) != 1 || !printable(values[0], maxToken) {
		return "", time.Time{}
	}
	segments := strings.Split(values[0], ".")
	if len(segments) != 3 {
		return "", time.Time{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(segments[1], "="))
	if err != nil {
		return "", time.Time{}
	}
	var claims struct {
		Exp json.Number `json:"exp"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", time.Time{}
	}
	exp, ok := seconds(claims.Exp)
	if !ok || exp <= now.Unix() {
		return "", time.Time{}
	}
	expires := time.Unix(exp, 0).UTC()
	if latest := now.Add(maxTokenLife).UTC(); expires.After(latest) {
		expires = latest
	}
	return values[0], expires
}
