package graph

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	graphql "github.com/graph-gophers/graphql-go"
)

const (
	uuidA = "11111111-2222-3333-4444-555555555555"
	uuidB = "66666666-7777-8888-9999-aaaaaaaaaaaa"
	uuidC = "bbbbbbbb-cccc-dddd-eeee-ffffffffffff"
)

func TestNodeIDs(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		id graphql.ID
		a  address
	}{
		{nodeID(kindPullRequest, uuidA, uuidB), address{kind: kindPullRequest, workspace: uuidA, id: uuidB}},
		{nodeIDOf(kindDecision, uuidA, uuidB, uuidC), address{kind: kindDecision, workspace: uuidA, of: uuidB, id: uuidC}},
		{nodeID(kindNotice, "", uuidA), address{kind: kindNotice, id: uuidA}},
		{nodeID(kindPasskey, "", "AQID_-"), address{kind: kindPasskey, id: "AQID_-"}},
		{nodeID(kindMemberKey, uuidA, "AQID_-"), address{kind: kindMemberKey, workspace: uuidA, id: "AQID_-"}},
	} {
		if a, ok := parseID(want.id); !ok || a != want.a {
			t.Errorf("%+v %t, want %+v", a, ok, want.a)
		}
	}
	for _, text := range []string{
		"", "request", "request:" + uuidA, "request::" + uuidB, "request:" + uuidA + ":", "nothing:" + uuidA + ":" + uuidB,
		"request:" + uuidA + ":" + uuidB + ":" + uuidC, "notice:" + uuidA + ":" + uuidB, "decision:" + uuidA + ":" + uuidB,
		"request:" + uuidA + ":66666666-7777-8888-9999-AAAAAAAAAAAA",
	} {
		if a, ok := parseID(graphql.ID(base64.RawURLEncoding.EncodeToString([]byte(text)))); ok {
			t.Errorf("%q is %+v", text, a)
		}
	}
	// One object has one identifier: what decodes to the same bytes in another way is none.
	id := nodeID(kindWorkspace, uuidA, uuidA)
	for _, other := range []graphql.ID{id + "=", id + "\n", " " + id} {
		if _, ok := parseID(other); ok {
			t.Errorf("%q is read", other)
		}
	}
}

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 30, 0, 123_456_789, time.FixedZone("", 3600))
	for given, want := range map[time.Time]string{
		at: `"2026-11-22T09:30:00.123456Z"`,
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC): `"2026-01-02T03:04:05Z"`,
	} {
		if got, err := json.Marshal(timeOf(given)); err != nil || string(got) != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
}
