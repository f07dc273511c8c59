package invariant

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/evidence"
)

func parseStatement(statement []byte) (evidence.Statement, error) {
	return evidence.ParseStatement(statement)
}

// signatures: each stored decision is an assertion that the verifier accepts, over a statement that
// says what the row says.
func (c *check) signatures() {
	for _, d := range c.decisions {
		name := c.nameOf(d.PullRequest)
		var assertion evidence.Assertion
		if err := json.Unmarshal(d.Assertion, &assertion); err != nil {
			c.breaks("%s: a stored assertion cannot be read: %v", name, err)
			continue
		}
		if _, err := evidence.VerifyAssertion(d.Statement, assertion, c.keys, c.RelyingParty); err != nil {
			c.breaks("%s: a stored decision does not verify: %v", name, err)
			continue
		}
		s, err := parseStatement(d.Statement)
		if err != nil {
			c.breaks("%s: a stored statement cannot be read: %v", name, err)
			continue
		}
		if s.Source.Commit != d.Head || s.Destination.Branch != d.Destination || string(s.Policy.RuleDigest) != d.RuleDigest || s.Request != d.Request || s.Approver.Person != d.Person {
			c.breaks("%s: a decision is stored as another one than was signed", name)
			continue
		}
		d.purpose = s.Purpose
	}
}

// requests: at most one of a pull request is alive, its rule is one of the policy that it names, and
// its verdict counts nobody twice.
func (c *check) requests() {
	alive := map[string]int{}
	for _, r := range c.snapshot.requests {
		name := c.nameOf(r.PullRequest)
		if r.alive() {
			if alive[r.PullRequest]++; alive[r.PullRequest] == 2 {
				c.breaks("%s: several of its requests are alive", name)
			}
		}
		document, err := approval.ParsePolicy(c.policies[r.Policy].Document)
		rule, _, found := document.Match(r.Destination)
		if err != nil || !found || string(rule.Digest()) != r.RuleDigest || string(r.rule().Digest()) != r.RuleDigest {
			c.breaks("%s: a request asks by a rule that its policy does not have for %s", name, r.Destination)
		}
		var verdict approval.Verdict
		if err := json.Unmarshal(r.Verdict, &verdict); err != nil {
			c.breaks("%s: a verdict cannot be read: %v", name, err)
		}
		counted := verdict.Requirements
		if verdict.Override != nil {
			counted = append(counted, *verdict.Override)
		}
		for _, requirement := range counted {
			ids := map[string]bool{}
			for _, p := range requirement.Counted {
				if p.ID != "" && ids[p.ID] || ids[p.AccountID] {
					c.breaks("%s: %s is counted twice", name, p.Name)
				}
				ids[p.ID], ids[p.AccountID] = true, true
			}
		}
	}
}

// verdicts: each that lets merge rests on its quorum at that time; at rest, the last ones do now.
func (c *check) verdicts() {
	c.good = map[string]int64{}
	closed := map[string]time.Time{}
	for _, l := range c.parse() {
		if body, ok := l.Body.(evidence.RequestClosed); ok {
			closed[body.Request] = l.Time
		}
	}
	for _, l := range c.parse() {
		body, ok := l.Body.(evidence.VerdictReached)
		if !ok || body.State != "APPROVED" && body.State != "OVERRIDDEN" {
			continue
		}
		r := c.snapshot.requests[body.Request]
		if r == nil {
			c.breaks("leaf %d is a verdict about a request that is not there", l.Index)
			continue
		}
		before := func(d *decision) bool { return d.Sequence < l.leaf.Sequence }
		// Whoever wrote the verdict has seen what was committed when that began.
		counts := func(d *decision) bool { return c.committed == nil || l.Time.Before(d.voidAt) }
		if why := c.lacks(r, body.State, before, counts); why != "" {
			c.breaks("%s: %s was %s %s", c.nameOf(r.PullRequest), r.Head[:12], body.State, why)
			continue
		}
		// What ends a request tallies once more what was decided, by the rule that it was asked under, in the same transaction.
		// The evidence needs that; it lets nobody merge.
		if end, over := closed[r.ID]; over && end.Equal(l.Time) {
			continue
		}
		if !c.ruled(r, l.Index) {
			c.breaks("%s: %s was %s by a rule that was not in force", c.nameOf(r.PullRequest), r.Head[:12], body.State)
			continue
		}
		if _, known := c.good[r.ID]; !known {
			c.good[r.ID] = l.Index
		}
	}
	if !c.atRest {
		return
	}
	ends := c.ends()
	for _, r := range c.snapshot.requests {
		if r.State != "APPROVED" && r.State != "OVERRIDDEN" {
			continue
		}
		end, merged := ends[r.PullRequest] // what came after is no business of the request's
		if !merged {
			end = ending{forever, forever}
		}
		before := func(d *decision) bool { return d.Sequence < end.sequence }
		counts := func(d *decision) bool { return d.void == forever || merged && d.void > end.index }
		if why := c.lacks(r, r.State, before, counts); why != "" {
			c.breaks("%s: %s is %s %s", c.nameOf(r.PullRequest), r.Head[:12], r.State, why)
		}
	}
}

// ending is the place of a leaf that says that a pull request was merged, in its chain and in the log.
type ending struct{ sequence, index int64 }

func (c *check) ends() map[string]ending {
	chains, ends := map[string]string{}, map[string]ending{}
	for _, p := range c.snapshot.pullRequests {
		chains[p.Chain] = p.ID
	}
	for _, l := range c.parse() {
		if _, ok := l.Body.(evidence.Merged); ok {
			ends[chains[l.leaf.Chain]] = ending{l.leaf.Sequence, l.Index}
		}
	}
	return ends
}

// ruled tells whether the rule of a request was the one for its branch in the policy that was in force at a place in the log. Of
// a repository whose policies have no leaves nobody can tell.
func (c *check) ruled(r *request, at int64) bool {
	pr := c.snapshot.pullRequests[r.PullRequest]
	if pr == nil {
		return false
	}
	rule, known := c.ruleAt(pr, r.Destination, at)
	return !known || rule != nil && string(rule.Digest()) == r.RuleDigest
}

// ruleAt is the rule for a branch of a pull request's repository in the policy that was in force at a place in the log; nil for
// none. known is false of a repository whose policies have no leaves.
func (c *check) ruleAt(pr *pullRequest, branch string, at int64) (rule *approval.Rule, known bool) {
	leaves := c.policyLeaves[evidence.RepositoryID(c.salts[pr.Workspace], bitbucket.BracedUUID(pr.Repository))]
	if len(leaves) == 0 {
		return nil, false
	}
	var force *evidence.PolicyVersion
	for _, l := range leaves {
		if body, ok := l.Body.(evidence.PolicyVersion); ok && l.Index < at {
			force = &body
		}
	}
	if force == nil {
		return nil, true
	}
	for _, p := range c.policies {
		if p.Repository != pr.Repository || p.Digest != string(force.Policy) {
			continue
		}
		document, err := approval.ParsePolicy(p.Document)
		if found, _, ok := document.Match(branch); err == nil && ok && document.Digest() == force.Policy {
			return &found, true
		}
		return nil, true
	}
	return nil, true
}

// lacks says why the decisions that were seen do not make a request approved, or overridden; "" where they do. Of each person the
// last one is looked at, and an approval must count. A rejection stands, whatever becomes known of its key, until its person says
// something else with a key that counts.
func (c *check) lacks(r *request, state string, seen, counts func(*decision) bool) string {
	pr := c.snapshot.pullRequests[r.PullRequest]
	if pr == nil {
		return "without a pull request"
	}
	last, rejected := map[string]*decision{}, map[string]bool{} // of each person, on this commit
	for _, d := range c.decisions {
		if d.PullRequest == r.PullRequest && d.Head == r.Head && d.purpose != "" && seen(d) {
			last[d.Person] = d
			if d.purpose == evidence.Reject || counts(d) {
				rejected[d.Person] = d.purpose == evidence.Reject
			}
		}
	}
	rule := r.rule()
	asked, purpose := rule.Requirements, evidence.Approve
	if state == "OVERRIDDEN" {
		asked, purpose = nil, evidence.Override
		if rule.Override != nil {
			asked = []approval.Requirement{{Quorum: rule.Override.Quorum, Approvers: rule.Override.Approvers}}
		}
	}
	if !c.reached(rule, asked, pr.Author, func(person string) bool {
		d := last[person]
		return d != nil && d.purpose == purpose && counts(d) && d.Request == r.ID && d.Destination == r.Destination && d.RuleDigest == r.RuleDigest
	}) {
		if state == "OVERRIDDEN" {
			return "without the overrides"
		}
		return "without its approvals"
	}
	for _, stands := range rejected {
		if state == "APPROVED" && stands {
			return "although a rejection stands"
		}
	}
	return ""
}

// reached counts the people who gave what requirements of a rule ask for, each once.
func (c *check) reached(rule approval.Rule, requirements []approval.Requirement, author string, gave func(person string) bool) bool {
	for _, requirement := range requirements {
		n := 0
		for person, account := range c.people {
			// Of somebody who was erased nobody can tell any more whether a rule named them.
			named := requirement.Approvers.Everyone || slices.Contains(requirement.Approvers.Accounts, account) || strings.HasPrefix(account, evidence.ErasedPrefix)
			if named && gave(person) && (account != author || rule.AuthorMayApprove) {
				n++
			}
		}
		if n < requirement.Quorum {
			return false
		}
	}
	return len(requirements) > 0
}
