package evidence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
)

// Result is how a step of a verification ended.
type Result string

// The results of a step.
const (
	OK               Result = "ok"
	Failed           Result = "failed"
	OperatorAsserted Result = "operator-asserted"
)

// Step is one numbered step of a verification.
type Step struct {
	// Number counts the steps from 1; it and Name are stable.
	Number int    `json:"number"`
	Name   string `json:"name"`
	Result Result `json:"result"`
	// Code is the refusal's code when the step failed.
	Code Code `json:"code,omitempty"`
	// Detail says in a sentence what was found.
	Detail string `json:"detail"`
	// Files are the files that a step with a repository names; their names may
	// hold any character.
	Files []string `json:"files,omitempty"`
}

// Label says on what a fact rests.
type Label string

// The labels of facts.
const (
	// Signed: an approver's authenticator signed it.
	Signed Label = "signed"
	// Recomputed: the verifier worked it out itself.
	Recomputed Label = "recomputed"
	// Asserted: only the operator says so.
	Asserted Label = "operator-asserted"
)

// Fact is something that the bundle says, and on what it rests.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Label Label  `json:"label"`
}

// Report is the outcome of a verification.
type Report struct {
	// Steps are those that were taken; the last one may have failed.
	Steps []Step `json:"steps"`
	// Facts are what a consistent bundle says.
	Facts []Fact `json:"facts"`
	// Missing is what would be needed to do without the operator's word: anchors that
	// were not given, openings that were erased, parts of a repository.
	Missing []string `json:"missing"`
	// Witnesses is how many independent witnesses, by the anchors, have cosigned the
	// checkpoint; 0 where the anchors ask for none.
	Witnesses int `json:"witnesses"`
	// Verdict is the verdict that the verifier reached itself; nil when a step failed.
	Verdict *approval.Verdict `json:"verdict,omitempty"`
	// Violation says that the chain calls the merge one: whatever the verdict, it does not
	// speak for what landed.
	Violation bool `json:"violation,omitempty"`
	// Landing is how what landed relates to what was signed; nil without a
	// repository or a merge.
	Landing *Landing `json:"landing,omitempty"`
	// Recorded is what a receipt proves; nil for a bundle, and when a step failed.
	Recorded *Recorded `json:"-"`

	change Change // what the verdict is about
}

// ExitCode returns 0 when the bundle or receipt is proved by anchors alone, 2 when it is
// consistent but rests on the operator's word, and 1 when a step failed.
func (r Report) ExitCode() int {
	switch {
	case r.failed() != nil || r.Verdict == nil && r.Recorded == nil:
		return 1
	case len(r.Missing) > 0:
		return 2
	}
	return 0
}

// Sentence sums the report up in one line.
func (r Report) Sentence() string {
	if step := r.failed(); step != nil {
		return fmt.Sprintf("FAILED at step %d (%s): %s", step.Number, step.Name, step.Detail)
	}
	var outcome string
	switch {
	case r.Verdict != nil:
		outcome = fmt.Sprintf("%s: %s", r.Verdict.State, r.Verdict.Sentence)
	case r.Recorded != nil:
		outcome = fmt.Sprintf("RECORDED: the decision over the statement %s is leaf %d of the log", r.Recorded.Decision.Statement, r.Recorded.Index)
	default:
		return "FAILED: nothing was verified"
	}
	var remarks []string
	if r.Violation {
		remarks = append(remarks, "merged as a VIOLATION")
	}
	if r.Witnesses == 0 {
		remarks = append(remarks, "UNWITNESSED")
	}
	if len(r.Missing) > 0 {
		remarks = append(remarks, "consistent, operator-asserted: "+strings.Join(r.Missing, ", "))
	}
	if len(remarks) > 0 {
		outcome += " (" + strings.Join(remarks, "; ") + ")"
	}
	return outcome
}

// Stolen reports whether what the bundle proves was so, and is not any more: it rests on a key that was
// reported as having been in other hands. The steps behind that were not taken.
func (r Report) Stolen() bool {
	step := r.failed()
	return step != nil && step.Code == CodeStolen
}

func (r Report) failed() *Step {
	for i := range r.Steps {
		if r.Steps[i].Result == Failed {
			return &r.Steps[i]
		}
	}
	return nil
}

// Verify checks a bundle from its bytes. It stops at the first step that fails.
// The steps and their numbers are those of FORMAT.md.
func Verify(bundle []byte, anchors Anchors) Report {
	v := verification{anchors: anchors}
	v.report.Steps = make([]Step, 0, 18) // three more with a repository
	for i, step := range []struct {
		name string
		run  func() (detail string, err error)
	}{
		{"bundle", func() (string, error) { return v.bundle(bundle) }},
		{"policy", v.policy},
		{"chain", v.chain},
		{"requests", v.requests},
		{"roster", v.roster},
		{"decisions", v.decisions},
		{"statements", v.statements},
		{"assertions", v.assertions},
		{"openings", v.openings},
		{"facts", v.facts},
		{"tally", v.tally},
		{"verdict", v.verdict},
		{"log", v.log},
		{"witnesses", v.witnesses},
		{"anchors", v.anchored},
	} {
		detail, err := step.run()
		taken := settle(i+1, step.name, detail, err)
		v.report.Steps = append(v.report.Steps, taken)
		if taken.Result == Failed {
			return v.report
		}
	}
	v.report.Verdict = &v.judged
	v.report.change = v.changed()
	v.report.Violation = v.report.change.Violation
	v.label()
	return v.report
}

// settle is a step that ended with err.
func settle(number int, name, detail string, err error) Step {
	taken := Step{Number: number, Name: name, Result: OK, Detail: detail}
	var assertion operatorAsserted
	switch {
	case errors.As(err, &assertion):
		taken.Result, taken.Detail = OperatorAsserted, assertion.Error()
	case err != nil:
		taken.Result, taken.Code, taken.Detail = Failed, CodeOf(err), err.Error()
	}
	return taken
}

// operatorAsserted is what a step returns that found nothing wrong and yet
// needs the operator's word.
type operatorAsserted string

func (a operatorAsserted) Error() string { return string(a) }

// verification is one run of [Verify]. Each step reads what the steps before it
// have checked and left here.
type verification struct {
	anchors Anchors
	report  Report

	b       Bundle
	changes []*rosterVersion // of its roster, as far as they could be read
	rule    approval.Rule
	digest  Digest // of the policy
	leaves  []Leaf
	// request is the one that the verdict is about.
	request Request
	made    []decision
	// known are the facts as the newest version of the roster judges the keys: what was reported when the verdict had
	// been reached is in them too. judged is the verdict that stands by them.
	known   approval.Facts
	judged  approval.Verdict
	counted []int64 // the sequences of the decisions that judged rests on
	erased  int     // openings that are absent

	opened map[string]int   // the requests by their ids, as indexes
	nonces map[string]bool  // of the statements so far
	signed map[Digest]int   // the decisions by their statements so far, as indexes
	roots  map[int64]Digest // of the log heads so far, by their sizes

	keys     *Roster
	enrolled []enrolled // in the order of the bundle's enrolments
	places   []place    // of everything that was signed
	pinned   bool       // whether an anchor says whose keys are whose
	unproved bool       // whether the operator says of which model a key is
	untold   bool       // whether people were erased whom the tally needs
}

// decision is a decision of the bundle with what was read from it.
type decision struct {
	SignedDecision
	statement Statement
	digest    Digest    // of the statement
	sequence  int64     // of its leaf
	at        time.Time // of its leaf
	account   string    // of the approver; empty if it was erased, or is not open and of no concern to the tally
	version   int64     // of the roster that the signer was shown
	newest    seen      // by the signers up to this one
	key       RosterKey
	// compromised says that the key may have been in other hands by then, or rests on one that was.
	compromised bool
	// disowned says that the rule asks for a countersigned key, and that whoever vouched for this one may have been
	// somebody else, too.
	disowned bool
	tallied  int // its place in the facts, from 1; 0 for none
}

func (v *verification) bundle(data []byte) (string, error) {
	var err error
	v.b, v.changes, err = readBundle(data)
	return fmt.Sprintf("%d bytes in canonical form", len(data)), err
}

func (v *verification) policy() (string, error) {
	policy, err := readPolicy(v.b.Policy)
	if err != nil {
		return "", err
	}
	v.digest = approval.DigestOf(v.b.Policy)
	branch := v.b.Facts.Request.DestinationBranch
	rule, _, ok := policy.Match(branch)
	if !ok {
		return "", refuse(CodeInvalid, "no rule of the policy matches the destination branch %q", branch)
	}
	if of, _ := digest(rule); of != v.b.Facts.Request.RuleDigest {
		return "", refuse(CodeInvalid, "the rule that matches the destination branch is not the request's")
	}
	v.rule = rule
	return fmt.Sprintf("rule %q applies to %s", rule.Name, branch), nil
}

// readPolicy reads a policy's canonical form.
func readPolicy(data []byte) (policy approval.Policy, err error) {
	if len(data) <= approval.MaxPolicyBytes && read(data, &policy) && policy.Check() == nil {
		return policy, nil
	}
	if _, err = approval.ParsePolicy(data); err != nil {
		return policy, refuse(CodeInvalid, "the policy is refused: %v", err)
	}
	return policy, refuse(CodeNotCanonical, "the policy is not in its one form")
}

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

// decisions makes sure that chain and bundle hold the same decisions, so that
// none can be hidden or added.
func (v *verification) decisions() (string, error) {
	v.made = make([]decision, 0, len(v.b.Decisions))
	for i, leaf := range v.leaves {
		body, ok := leaf.Body.(DecisionMade)
		if !ok {
			continue
		}
		n := len(v.made)
		if n == len(v.b.Decisions) {
			return "", refuse(CodeChain, "leaf %d is a decision that the bundle leaves out", i+1)
		}
		d := v.b.Decisions[n]
		assertion, err := d.Assertion.Digest()
		if err != nil {
			return "", err
		}
		digest := approval.DigestOf(d.Statement)
		if body.Statement != digest || body.Assertion != assertion {
			return "", refuse(CodeChain, "decision %d is not the one of leaf %d", n+1, i+1)
		}
		v.made = append(v.made, decision{SignedDecision: d, digest: digest, sequence: leaf.Chain.Sequence, at: leaf.Time})
	}
	if len(v.made) != len(v.b.Decisions) {
		return "", refuse(CodeChain, "decision %d is not in the chain", len(v.made)+1)
	}
	return fmt.Sprintf("%d, each in the chain and in the bundle", len(v.made)), nil
}

func (v *verification) statements() (string, error) {
	v.nonces, v.signed, v.roots = make(map[string]bool, len(v.made)), make(map[Digest]int, len(v.made)), map[int64]Digest{}
	for i := range v.made {
		s, err := ParseStatement(v.made[i].Statement)
		if err == nil {
			err = v.statement(s, i)
		}
		if err != nil {
			return "", refuse(CodeOf(err), "decision %d: %s", i+1, err.Error())
		}
		v.made[i].statement = s
		v.signed[v.made[i].digest] = i
	}
	return fmt.Sprintf("%d, each about its request and its place in the chain", len(v.made)), nil
}

// statement compares the statement of decision i with the bundle around it.
func (v *verification) statement(s Statement, i int) error {
	leaf := v.leaves[v.made[i].sequence-1]
	bad := func(what string) error { return refuse(CodeInvalid, "the statement names another %s", what) }
	if leaf.Body.(DecisionMade).Request != s.Request {
		return bad("request")
	}
	r := v.b.Requests[v.opened[s.Request]] // the leaf's was opened
	switch {
	case s.Workspace != r.Workspace:
		return bad("workspace")
	case s.Destination.Repository != r.Repository:
		return bad("repository")
	case s.PullRequest != r.PullRequest:
		return bad("pull request")
	case s.Source.Commit != r.HeadCommit:
		return bad("head commit")
	case s.Destination.Branch != r.DestinationBranch:
		return bad("destination branch")
	case s.Policy.RuleDigest != r.RuleDigest:
		return bad("rule")
	case s.Policy.RuleDigest == v.b.Facts.Request.RuleDigest && !slices.Equal(s.Requirements, RequirementsOf(v.rule)):
		return bad("set of requirements than its rule has")
	}
	v.places = append(v.places, place{RelyingParty{ID: s.RPID, Origin: s.Origin}, s.LogOrigin})
	head := s.ChainHead
	if head.Chain != leaf.Chain.ID || head.Sequence >= leaf.Chain.Sequence || head.Leaf != LeafDigest(v.b.Chain[head.Sequence-1]) {
		return refuse(CodeChain, "the signer was shown a chain that is not this one")
	}
	if !leaf.Time.Before(r.ExpiresAt) && (s.Purpose == Override || s.Purpose == Approve) {
		return refuse(CodeChain, "it approves or overrides a request that had expired")
	}
	if s.Purpose == Withdraw && !v.withdraws(s) {
		return refuse(CodeChain, "it withdraws no earlier decision of the same person on this commit")
	}
	if v.nonces[string(s.Nonce)] {
		return refuse(CodeInvalid, "its nonce was used before")
	}
	v.nonces[string(s.Nonce)] = true
	if leaf.Time.Before(s.IssuedAt) {
		return refuse(CodeChain, "it was filed before it was issued")
	}
	if !leaf.Time.Before(s.ExpiresAt) {
		return refuse(CodeChain, "it was filed when its signature had expired")
	}
	return v.shown(s, i)
}

// withdraws reports whether a statement withdraws an earlier decision of its person.
func (v *verification) withdraws(s Statement) bool {
	i, ok := v.signed[s.Withdraws]
	if !ok {
		return false
	}
	earlier := &v.made[i].statement
	return earlier.Purpose != Withdraw && earlier.Approver.Person == s.Approver.Person && earlier.Source.Commit == s.Source.Commit
}

func (v *verification) assertions() (string, error) {
	ring := v.keys.ring()
	work := int64(0)
	for _, d := range v.made {
		work += ring.work(d.Assertion.Signature)
	}
	if work > MaxRSAWork {
		return "", refuse(CodeTooLarge, "so many RS256 keys would have to be tried on so many decisions that no verifier has to")
	}
	for i := range v.made {
		d := &v.made[i]
		rp := RelyingParty{ID: d.statement.RPID, Origin: d.statement.Origin}
		result, err := verifySigned(d.Statement, rp, d.statement.Approver.Person, d.Assertion, ring, rp)
		if err == nil {
			err = v.counts(i, result.Key)
		}
		if err != nil {
			return "", refuse(CodeOf(err), "decision %d: %s", i+1, err.Error())
		}
	}
	return fmt.Sprintf("%d, each by one key of its approver that counted, user present and verified", len(v.made)), nil
}

func (v *verification) openings() (string, error) {
	for i, d := range v.made {
		err := errors.Join(v.open(d.Approver, d.statement.Approver.Commitment), v.open(d.Author, d.statement.Author.Commitment))
		if d.Approver != nil {
			v.made[i].account = d.Approver.AccountID
		}
		switch {
		case err != nil:
		case d.Comment != nil:
			err = d.Comment.Verify(d.statement.Comment)
		case d.statement.Comment != "":
			v.erased++
		}
		if err != nil {
			return "", refuse(CodeCommitment, "decision %d: an opening does not open its commitment", i+1)
		}
	}
	if err := v.owners(); err != nil {
		return "", err
	}
	if v.erased > 0 {
		v.lacks("erased openings")
		return "", operatorAsserted(fmt.Sprintf("%d openings were erased; those people are known by the operator's word", v.erased))
	}
	return "all commitments open", nil
}

// open checks an opening, and counts one that is absent.
func (v *verification) open(opening *PersonOpening, c Commitment) error {
	if opening == nil {
		v.erased++
		return nil
	}
	return opening.Verify(c)
}

// facts makes sure that the tally was given exactly the decisions on this
// commit, as they were signed.
func (v *verification) facts() (string, error) {
	f := v.b.Facts
	if !utc(f.Now) {
		return "", refuse(CodeInvalid, "the time of the tally must be in UTC")
	}
	if f.Request.Lapsed != v.lapsed() {
		return "", refuse(CodeInvalid, "the tally was told otherwise than the chain shows whether the time was up before the request was approved")
	}
	asserted := f.Decisions
	v.known = f
	v.known.Decisions = slices.Clone(f.Decisions)
	for i, d := range v.made {
		s := d.statement
		if s.Source.Commit != v.request.HeadCommit {
			continue
		}
		if len(asserted) == 0 {
			return "", refuse(CodeInvalid, "decision %d was kept from the tally", i+1)
		}
		got := asserted[0]
		v.made[i].tallied = len(f.Decisions) - len(asserted) + 1
		asserted = asserted[1:]
		want := approval.Decision{
			ID: d.ID, RequestID: s.Request, PersonID: s.Approver.Person, AccountID: got.AccountID, Name: got.Name,
			Action: s.Purpose.Action(), HeadCommit: s.Source.Commit, DestinationBranch: s.Destination.Branch,
			RuleDigest: s.Policy.RuleDigest, Sequence: d.sequence, Compromised: d.compromised, Late: !d.at.Before(v.request.ExpiresAt),
		}
		if d.Approver != nil {
			want.AccountID, want.Name = d.Approver.AccountID, d.Approver.Name
		}
		if v.rule.Needs().Identities {
			want.Identity = string(v.keys.IdentityAt(d.key, d.version))
		}
		today := &v.known.Decisions[v.made[i].tallied-1]
		today.Compromised, today.Identity = want.Compromised, want.Identity
		// What was reported when the verdict had been reached nobody could tell the tally.
		want.Compromised = want.Compromised && got.Compromised
		if want.Identity == approval.Disowned && got.Identity == approval.Countersigned {
			want.Identity, v.made[i].disowned = got.Identity, true
		}
		if v.rule.Needs().Models {
			want.Model = v.model(d.key, got.Model)
		}
		if got.Model != want.Model {
			return "", refuse(CodeAttestation, "the tally was told of which model the key of decision %d is, and that is not what its attestation proves", i+1)
		}
		if got != want {
			return "", refuse(CodeInvalid, "the tally was given decision %d otherwise than it was signed", i+1)
		}
		if d.Approver == nil && !erased(got.AccountID) {
			v.made[i].account = got.AccountID
		}
		if d.Author != nil && d.Author.AccountID != f.Author {
			return "", refuse(CodeInvalid, "decision %d names another author than the tally was given", i+1)
		}
	}
	if len(asserted) > 0 {
		return "", refuse(CodeInvalid, "the tally was given a decision that nobody signed")
	}
	if v.unproved {
		v.lacks("models")
		return "", operatorAsserted("the decisions were given to the tally as signed; that a key's certificate rests on a root of its model is the operator's word")
	}
	return fmt.Sprintf("%d decisions on this commit, all given to the tally as signed", len(f.Decisions)), nil
}

func (v *verification) tally() (string, error) {
	got, counted := approval.Count(v.rule, v.b.Facts)
	want := v.b.Verdict
	v.judged, v.counted = want, counted
	same := func() bool {
		a, err := digest(got)
		b, unread := digest(want)
		return err == nil && unread == nil && a == b
	}
	if v.erasedFacts() && !same() {
		// Whether those who were asked agreed cannot be told any more; whether as many did can.
		could, counted := approval.CountAgain(open(v.rule), deciding(v.b.Facts), want.State)
		if green(string(want.State)) && could.State != want.State {
			return "", refuse(CodeInvalid, "the bundle says %s, and whoever may have been erased, too few people agreed for that", want.State)
		}
		v.untold, v.counted = true, counted
		if err := v.judge(); err != nil {
			return "", err
		}
		v.lacks("tally, which cannot be run again without the people who were erased")
		return "", operatorAsserted("people were erased from the facts, so that the rule no longer knows them: that the verdict follows from the decisions is the operator's word")
	}
	if got.State != want.State || got.Sentence != want.Sentence {
		return "", refuse(CodeInvalid, "the tally comes to %s (%s), the bundle says %s (%s)", got.State, got.Sentence, want.State, want.Sentence)
	}
	if !same() {
		return "", refuse(CodeInvalid, "the tally explains the verdict otherwise than the bundle does")
	}
	if err := v.judge(); err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%s: %s", got.State, got.Sentence)
	if v.judged.Sentence != got.Sentence {
		detail += fmt.Sprintf("; by what is known of the keys today: %s: %s", v.judged.State, v.judged.Sentence)
	}
	return detail, nil
}

// judge tallies by what is known of the keys today. It takes away what was green, and makes nothing green: a
// verdict that lets nothing be merged stays as it was reached.
func (v *verification) judge() error {
	if slices.Equal(v.known.Decisions, v.b.Facts.Decisions) {
		return nil // the tally knew
	}
	rule, facts := v.rule, v.known
	if v.untold {
		rule, facts = open(rule), deciding(facts)
	}
	then := v.b.Verdict
	today, counted := approval.CountAgain(rule, facts, then.State)
	v.counted = counted
	switch {
	case v.untold && today.State == then.State: // who counts is told by nothing
	case today.State == then.State, !v.untold && then.State == approval.Approved && today.State == approval.Overridden:
		v.judged = today
	case green(string(then.State)):
		return refuse(CodeStolen, "the bundle says %s, and that rests on a decision whose key, or one that signed for it, was reported as having been in other hands by then: without what such keys signed it is %s (%s)",
			then.State, today.State, today.Sentence)
	}
	return nil
}

// open returns the rule with everyone in each of its sets.
func open(rule approval.Rule) approval.Rule {
	rule.Requirements = slices.Clone(rule.Requirements)
	for i := range rule.Requirements {
		rule.Requirements[i].Approvers = approval.Approvers{Everyone: true}
	}
	if rule.Override != nil {
		o := *rule.Override
		o.Approvers = approval.Approvers{Everyone: true}
		rule.Override = &o
	}
	return rule
}

// deciding returns the facts with those who decided for the people who can.
func deciding(f approval.Facts) approval.Facts {
	f.Writers = nil
	for _, d := range f.Decisions {
		f.Writers = append(f.Writers, approval.Person{ID: d.PersonID, AccountID: d.AccountID, Name: d.Name})
	}
	return f
}

// erasedFacts reports whether the bundle gives out that somebody was erased from
// its facts: then nothing commits to them.
func (v *verification) erasedFacts() bool {
	person := func(p approval.Person) bool { return erased(p.AccountID) }
	f := v.b.Facts
	return len(v.b.OutcomeSalt) == 0 && (erased(f.Author) || slices.ContainsFunc(f.Writers, person) || slices.ContainsFunc(f.People, person) ||
		slices.ContainsFunc(f.Decisions, func(d approval.Decision) bool { return erased(d.AccountID) }))
}

// erased reports whether facts or a verdict have this in place of an account.
func erased(account string) bool { return strings.HasPrefix(account, ErasedPrefix) }

// verdict makes sure that the chain's last word on the request is this verdict.
func (v *verification) verdict() (string, error) {
	last := slices.IndexFunc(reversed(v.leaves), func(l Leaf) bool {
		body, ok := l.Body.(VerdictReached)
		return ok && body.Request == v.request.ID
	})
	if last < 0 {
		return "", refuse(CodeChain, "the chain has no verdict on this request")
	}
	at := len(v.leaves) - 1 - last
	body := v.leaves[at].Body.(VerdictReached)
	if body.State != string(v.b.Verdict.State) {
		return "", refuse(CodeChain, "the chain's last verdict on this request is another one")
	}
	if len(v.b.OutcomeSalt) > 0 {
		outcome, err := OutcomeDigest(v.b.OutcomeSalt, v.digest, v.b.Facts, v.b.Verdict)
		if err != nil {
			return "", err
		}
		if body.Outcome != outcome {
			return "", refuse(CodeChain, "the chain's last verdict on this request is another one")
		}
	}
	for i, d := range v.made {
		if d.statement.Source.Commit == v.request.HeadCommit && d.sequence > int64(at+1) {
			return "", refuse(CodeChain, "decision %d was made after the verdict", i+1)
		}
	}
	if err := v.history(); err != nil {
		return "", err
	}
	if len(v.b.OutcomeSalt) == 0 {
		v.lacks("facts of the verdict, which were erased")
		return "", operatorAsserted(fmt.Sprintf("leaf %d commits to it, but the facts were erased: that these are the ones is the operator's word", at+1))
	}
	return fmt.Sprintf("leaf %d commits to it", at+1), nil
}

func reversed(leaves []Leaf) []Leaf {
	leaves = slices.Clone(leaves)
	slices.Reverse(leaves)
	return leaves
}

// label lists what a consistent bundle says and on what it rests.
func (v *verification) label() {
	add := func(name, value string, label Label) {
		v.report.Facts = append(v.report.Facts, Fact{name, value, label})
	}
	pick := func(yes bool, then, otherwise Label) Label {
		if yes {
			return then
		}
		return otherwise
	}
	signed := pick(slices.ContainsFunc(v.made, func(d decision) bool { return d.statement.Request == v.request.ID }), Signed, Asserted)
	add("head commit", v.request.HeadCommit, signed)
	add("destination branch", v.request.DestinationBranch, signed)
	add("pull request", fmt.Sprintf("%s #%d", v.request.Repository, v.request.PullRequest), signed)
	add("rule", fmt.Sprintf("%s (%s)", v.rule.Name, v.request.RuleDigest), signed)
	for _, d := range v.made {
		add("decision", fmt.Sprintf("person %s: %s Diff shown: SHA-256 %s.", d.statement.Approver.Person, d.statement.Meaning, d.statement.Diff.SHA256), Signed)
	}
	if v.judged.State == approval.Overridden {
		for _, d := range v.made {
			if v.overrides(d) {
				add("override", v.overrider(d), Signed)
			}
		}
	}
	add("history", fmt.Sprintf("%d leaves, %d decisions", len(v.leaves), len(v.made)), Recomputed)
	for _, leaf := range v.leaves {
		switch body := leaf.Body.(type) {
		case RequestClosed:
			if body.Request == v.request.ID {
				add("request", body.Reason, Asserted)
			}
		case Merged:
			add("merge", fmt.Sprintf("%s, commit %s", body.Kind, body.Commit), Asserted)
		case MergeChecked:
			if body.Trigger == TriggerOnMerge && body.Commit != "" {
				add("merge check", fmt.Sprintf("answered %s (%s) for commit %s", body.Answer, body.Code, body.Commit), Asserted)
			}
		}
	}
	for i, d := range v.made {
		who := fmt.Sprintf("decision %d, by person %s: ", i+1, d.statement.Approver.Person)
		switch {
		case d.compromised:
			add("compromised", who+"its key, or one that signed for it, was reported as having been in other hands by then; it counts in nobody's favour", Signed)
		case d.disowned:
			add("compromised", who+"a key that vouched for its key was reported as having been in other hands by then; its key is known by a log-in alone", Signed)
		}
	}
	if v.judged.Sentence != v.b.Verdict.Sentence {
		add("verdict of before the report", fmt.Sprintf("%s: %s", v.b.Verdict.State, v.b.Verdict.Sentence), Recomputed)
	}
	add("verdict", fmt.Sprintf("%s: %s", v.judged.State, v.judged.Sentence), Recomputed)
	v.labelKeys(add)
	add("author", "account "+v.b.Facts.Author, Asserted)
	if v.rule.Needs().Writers {
		add("permissions", fmt.Sprintf("%d people with write permission", len(v.b.Facts.Writers)), Asserted)
	}
	add("time of the verdict", v.b.Facts.Now.Format(time.RFC3339), Asserted)
}

// overrides reports whether a decision is one of the overrides that the verdict counts.
func (v *verification) overrides(d decision) bool {
	return d.statement.Purpose == Override && d.statement.Request == v.request.ID &&
		slices.ContainsFunc(v.judged.Override.Counted, func(p approval.Person) bool { return p.ID == d.statement.Approver.Person })
}

// overrider says who overrode and why. The name is a fact of its own: it is not the person's word.
func (v *verification) overrider(d decision) string {
	who := "person " + d.statement.Approver.Person
	if d.Comment == nil {
		return who + "; the reason was erased"
	}
	return fmt.Sprintf("%s: %q", who, d.Comment.Text)
}
