package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/signedapproval/bitbucket/server/store"
)

// signed tells whether the raw bytes bear the signature of whoever holds the secret: one
// X-Hub-Signature in the one form that Bitbucket writes, "sha256=" and 64 lower-case hex digits.
func signed(header http.Header, secret store.Secret, raw []byte) bool {
	given := header.Values("X-Hub-Signature")
	if len(given) != 1 || secret == "" {
		return false // with no secret everybody could sign
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(raw)
	want := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(given[0]), []byte(want))
}
