package approval_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
)

func TestTooDeep(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + strings.Repeat(`]}`, n/2) }
	for text, want := range map[string]bool{
		``: false, `{}`: false, nested(approval.MaxDepth): false, nested(approval.MaxDepth + 2): true,
		strings.Repeat("[", approval.MaxDepth): false, strings.Repeat("[", approval.MaxDepth+1): true,
		`["` + strings.Repeat("[", 100) + `"]`: false, `["\"` + strings.Repeat("[", 100) + `"]`: false, `["\\",` + strings.Repeat("[", 100): true,
		`[` + strings.Repeat("[],{},", 100) + `1]`: false,
	} {
		if approval.TooDeep([]byte(text)) != want {
			t.Errorf("%.60s: want %t", text, want)
		}
	}
}

func TestParsePolicyRefusesDepth(t *testing.T) {
	t.Parallel()
	_, err := approval.ParsePolicy([]byte(`{"format":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`))
	var refused *approval.PolicyError
	if !errors.As(err, &refused) || refused.Problems[0].Code != approval.CodeTooLarge {
		t.Error(err)
	}
}
