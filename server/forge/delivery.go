package forge

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/atlassian"
)

const (
	// nowhere stands for the repository of a body that names none.
	nowhere = "00000000-0000-0000-0000-000000000000"
	// noName stands for the name of an event that has none that could be stored.
	noName = "unknown"
	// maxEventName is the longest name of an event that is stored, in bytes.
	maxEventName = 100
)

// deliveries is the space of the ids below, apart from those that others make.
var deliveries = uuid.MustParse("5f1d7a52-7c0e-4b0f-9c35-5b1f5c9b0c1e")

// deliveryID is the same for each try of one event in one installation. Forge gives its events no id:
// the id is a hash of the event without what tells the tries apart. Events that do not say when they
// happened may be alike and yet different; each call with one counts as another.
func deliveryID(inv atlassian.Invocation, raw []byte, dated bool) string {
	canonical := raw
	decoder := json.NewDecoder(bytes.NewReader(unwrap(raw)))
	decoder.UseNumber()
	var event map[string]any
	if decoder.Decode(&event) == nil {
		delete(event, "retryContext")
		if sorted, err := json.Marshal(event); err == nil {
			canonical = sorted
		}
	}
	once := ""
	if !dated {
		once = inv.ID
	}
	h := sha256.New()
	h.Write([]byte(inv.InstallationID + "\x00" + once + "\x00"))
	h.Write(canonical)
	return uuid.NewHash(sha256.New(), deliveries, h.Sum(nil), 8).String()
}
