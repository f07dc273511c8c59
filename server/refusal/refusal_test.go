package refusal_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/refusal"
)

func TestARefusalIsFoundInAChain(t *testing.T) {
	t.Parallel()
	cause := errors.New("password=hunter2")
	refused := refusal.New(refusal.BadInput, "The quorum is %d.", 0).At("rules", "0", "quorum").Because(cause)
	err := fmt.Errorf("save: %w", refused)

	if refusal.Code(err) != refusal.BadInput {
		t.Errorf("the code is %q", refusal.Code(err))
	}
	found := refusal.Of(err)
	if found == nil || found.Message != "The quorum is 0." || !slices.Equal(found.Path, []string{"rules", "0", "quorum"}) {
		t.Fatalf("found %+v", found)
	}
	if strings.Contains(found.Message, "hunter2") {
		t.Error("the caller is told the cause")
	}
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "hunter2") {
		t.Error("the log is not told the cause")
	}
}

func TestAnythingElseIsNoRefusal(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("disk full")} {
		if refusal.Code(err) != "" || refusal.Of(err) != nil {
			t.Errorf("%v was taken for a refusal", err)
		}
	}
}
