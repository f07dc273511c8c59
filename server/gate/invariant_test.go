package gate_test

import (
	"strings"
	"testing"

	"github.com/signedapproval/bitbucket/server/approval"
)

// TestTheInvariantsAreChecked breaks each of them in the database: a checker that notices nothing
// would make most tests of this package worthless.
func TestTheInvariantsAreChecked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, harm, want string }{
		{"a decision is missing", `delete from signedapproval_decisions where ctid = (select min(ctid) from signedapproval_decisions)`, "without its approvals"},
		{"a statement was changed", `update signedapproval_decisions set statement = statement || ' '::bytea`, "does not verify"},
		{"a leaf is missing", `delete from signedapproval_leaves where sequence = 2`, "leaves"},
		{"a leaf was changed", `update signedapproval_leaves set entry = entry || ' '::bytea where sequence = 2`, "chain"},
		{"the end of the chain was changed", `update signedapproval_pull_requests set chain_leaf = repeat('0', 64)`, "another end"},
		{"the log is longer than it says", `update signedapproval_log_head set size = size - 1`, "the log says"},
		{"what approves is not published", `delete from signedapproval_log_checkpoints`, "no published checkpoint covers"},
		{"a merge happened twice", `insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
			select workspace_id, pull_request_id, unnest(array[head_commit, repeat('0', 40)]), id, 'merge_commit', 'MERGED' from signedapproval_approval_requests`, "merged 2 times"},
		{"what was merged was not approved", `insert into signedapproval_merge_intents (workspace_id, pull_request_id, head_commit, request_id, strategy, state)
			select workspace_id, pull_request_id, repeat('0', 40), id, 'merge_commit', 'MERGED' from signedapproval_approval_requests`, "was merged without"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.save(w.rule(2, "bob", "carol"))
			number := w.open()
			w.settle()
			w.decides(number, "bob", approval.Approve)
			w.decides(number, "carol", approval.Approve)
			w.settle()
			w.sql(test.harm)
			if err := w.broken(true); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the checker says %v, want %q", err, test.want)
			}
		})
	}
}
