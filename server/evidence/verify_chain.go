package evidence

import (
	"fmt"
)

func (v *verification) chain() (string, error) {
	entries := make([][]byte, len(v.b.Chain))
	for i, entry := range v.b.Chain {
		entries[i] = entry
	}
	leaves, err := CheckChain(entries)
	if err != nil {
		return "", err
	}
	if len(leaves) == 0 || len(v.b.Requests) == 0 {
		return "", refuse(CodeChain, "the bundle has no history")
	}
	if len(v.b.Salt) != SaltSize {
		return "", refuse(CodeChain, "a salt has %d bytes", SaltSize)
	}
	first := v.b.Requests[0]
	if leaves[0].Chain.ID != ChainID(v.b.Salt, first.Repository, first.PullRequest) {
		return "", refuse(CodeChain, "the chain belongs to another pull request")
	}
	if leaves[0].Workspace != WorkspaceID(v.b.Salt, first.Workspace) {
		return "", refuse(CodeChain, "the chain belongs to another workspace")
	}
	v.leaves = leaves
	return fmt.Sprintf("%d leaves without a gap", len(leaves)), nil
}

func (v *verification) requests() (string, error) {
	v.opened = make(map[string]int, len(v.b.Requests))
	next := 0
	var live standing
	landed := ""
	for i, leaf := range v.leaves {
		if body, ok := leaf.Body.(Merged); ok {
			if landed != "" && landed != body.Commit {
				return "", refuse(CodeChain, "leaf %d says that another commit landed than a leaf before it", i+1)
			}
			landed = body.Commit
		}
		if body, ok := leaf.Body.(RequestClosed); ok && body.Request == v.b.Facts.Request.ID && i+1 < len(v.leaves) {
			return "", refuse(CodeChain, "leaf %d closes the request that the verdict is about, and the chain goes on after it", i+1)
		}
		if body, ok := leaf.Body.(MergeChecked); ok && body.Answer == AnswerYes && !live.allows(body, v.b.Salt) {
			return "", refuse(CodeChain, "leaf %d lets something be merged that the leaves before it do not show as approved or overridden", i+1)
		}
		if body, ok := leaf.Body.(RequestClosed); ok && (live.request == nil || live.request.ID != body.Request) {
			return "", refuse(CodeChain, "leaf %d closes a request that is not open", i+1)
		}
		if id := judged(leaf.Body); id != "" && (live.request == nil || live.request.ID != id) {
			return "", refuse(CodeChain, "leaf %d decides about a request that is not open", i+1)
		}
		live.follow(leaf.Body)
		if body, ok := leaf.Body.(RequestOpened); ok {
			if live.request != nil {
				return "", refuse(CodeChain, "leaf %d opens a request while another one is open", i+1)
			}
			if next == len(v.b.Requests) {
				return "", refuse(CodeChain, "leaf %d opens a request that the bundle leaves out", i+1)
			}
			r := v.b.Requests[next]
			document, err := r.Digest()
			if err != nil {
				return "", err
			}
			if body.Request != r.ID || body.Document != document {
				return "", refuse(CodeChain, "request %d is not the one that leaf %d opens", next+1, i+1)
			}
			first := v.b.Requests[0]
			if r.Workspace != first.Workspace || r.Repository != first.Repository || r.PullRequest != first.PullRequest {
				return "", refuse(CodeChain, "request %d is about another pull request", next+1)
			}
			if _, before := v.opened[r.ID]; before {
				return "", refuse(CodeChain, "leaf %d opens a request again", i+1)
			}
			if !r.OpenedAt.Equal(leaf.Time) {
				return "", refuse(CodeChain, "request %d was opened at another time than leaf %d", next+1, i+1)
			}
			if r.RuleDigest == v.b.Facts.Request.RuleDigest && r.ExpiresAt.Sub(r.OpenedAt) != v.rule.Expiry() {
				return "", refuse(CodeInvalid, "request %d has another time than its rule gives it", next+1)
			}
			v.opened[r.ID] = next
			live = standing{request: &r}
			next++
			continue
		}
		if id := requestOf(leaf.Body); id != "" {
			if _, before := v.opened[id]; !before {
				return "", refuse(CodeChain, "leaf %d is about a request that was not opened", i+1)
			}
		}
	}
	if next != len(v.b.Requests) {
		return "", refuse(CodeChain, "request %d was never opened in the chain", next+1)
	}
	want := v.b.Facts.Request
	i, ok := v.opened[want.ID]
	if !ok {
		return "", refuse(CodeInvalid, "the facts are about a request that is not in the bundle")
	}
	v.request = v.b.Requests[i]
	if want.HeadCommit != v.request.HeadCommit || want.DestinationBranch != v.request.DestinationBranch ||
		want.RuleDigest != v.request.RuleDigest || !want.ExpiresAt.Equal(v.request.ExpiresAt) {
		return "", refuse(CodeInvalid, "the facts describe the request otherwise than the chain does")
	}
	return fmt.Sprintf("%d in the chain, the verdict is about number %d", next, i+1), nil
}

// standing is the request that is open at a place in the chain, with its last
// verdict; the zero one where none is.
type standing struct {
	request *Request
	verdict string
}

// follow moves on over a leaf.
func (s *standing) follow(body Body) {
	switch body := body.(type) {
	case VerdictReached:
		if s.request != nil && s.request.ID == body.Request {
			s.verdict = body.State
		}
	case RequestClosed:
		if s.request != nil && s.request.ID == body.Request {
			*s = standing{}
		}
	}
}

// allows reports whether a "yes" of the merge check may stand here: the open
// request is approved or overridden, as its code says, and is about this commit and
// branch, or nothing is asked for.
func (s *standing) allows(yes MergeChecked, salt []byte) bool {
	if s.request == nil {
		return yes.Code == CheckNoRule
	}
	return yes.Request == s.request.ID && s.verdict == yes.Code && yes.Commit == s.request.HeadCommit &&
		yes.Destination == BranchID(salt, s.request.Repository, s.request.DestinationBranch)
}

// judged returns the request that is decided about, by a person or by the tally;
// empty where a leaf is about something else.
func judged(body Body) string {
	switch body := body.(type) {
	case DecisionMade:
		return body.Request
	case VerdictReached:
		return body.Request
	}
	return ""
}

// requestOf returns the request that a leaf is about.
func requestOf(body Body) string {
	switch body := body.(type) {
	case RequestClosed:
		return body.Request
	case DecisionMade:
		return body.Request
	case VerdictReached:
		return body.Request
	case StatusPaid:
		return body.Request
	case Merged:
		return body.Request
	case MergeChecked:
		return body.Request
	}
	return ""
}
