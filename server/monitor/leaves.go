package monitor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// nobodys stands for no workspace: leaves about a person's own keys carry it.
var nobodys = evidence.WorkspaceID(nil, "00000000-0000-0000-0000-000000000000")

// reading is what one transaction reads of the log.
type reading struct {
	tx       *bbolt.Tx
	progress *progress
	options  *Options
	now      time.Time
}

// found writes down what was found at a leaf.
func (r *reading) found(code Code, notice bool, index int64, subject, detail string, args ...any) error {
	if subject == "" {
		subject = fmt.Sprintf("leaf %d", index)
	}
	return record(r.tx, Finding{Code: code, Notice: notice, Subject: subject, Detail: fmt.Sprintf(detail, args...), Leaf: &index, Time: r.now})
}

// leaf looks at the entry with an index, which is in the log.
func (r *reading) leaf(index int64, entry []byte, hash tlog.Hash) error {
	leaf, err := evidence.ParseLeaf(entry)
	if err != nil {
		return r.found(LeafUnreadable, false, index, "", "it is no leaf that this version knows: %v", err)
	}
	if err := r.time(index, leaf.Time); err != nil {
		return err
	}
	if leaf.Chain != nil {
		return r.chained(index, leaf, hash)
	}
	if genesis := historyKey(leaf.Workspace, "genesis", 0); leaf.Workspace != nobodys && leaf.Body.Type() != evidence.TypeGenesis &&
		r.tx.Bucket(tableHistory).Get(genesis) == nil {
		err := r.found(GenesisMissing, false, index, "workspace "+string(leaf.Workspace), "its first leaf is %s, of the type %s", leafName(hash), leaf.Body.Type())
		if err != nil {
			return err
		}
	}
	kept := past{index, entry}
	switch body := leaf.Body.(type) {
	case evidence.Genesis:
		key := historyKey(leaf.Workspace, "genesis", 0)
		if r.tx.Bucket(tableHistory).Get(key) != nil {
			return r.found(GenesisTwice, false, index, "workspace "+string(leaf.Workspace), "it begins again with leaf %s", leafName(hash))
		}
		return put(r.tx.Bucket(tableHistory), key, kept)
	case evidence.RosterVersion:
		return r.version(kept, leaf, "roster", body.Version)
	case evidence.PolicyVersion:
		return r.version(kept, leaf, "policy/"+string(body.Repository), body.Version)
	case evidence.ProtectionSet:
		return r.version(kept, leaf, "protection", body.Version)
	case evidence.KeyEnrolled:
		if err := put(r.tx.Bucket(tableKeys), []byte(body.Key), kept); err != nil {
			return err
		}
		if err := r.enrolledBefore(kept, body); err != nil {
			return err
		}
		if mine := r.options.Mine; mine != nil && slices.Contains(mine.People, body.Person) && !slices.Contains(mine.Keys, body.Key) {
			return r.found(UnknownKey, false, index, "key "+string(body.Key), "it was enrolled at %s under the name of person %s, who did not list it; identified by %s",
				leaf.Time.Format(time.RFC3339), body.Person, body.IdentifiedBy)
		}
		if body.IdentifiedBy == string(evidence.ByLogIn) {
			return r.found(LogInKey, true, index, "key "+string(body.Key), "it is of person %s by a log-in at Bitbucket only, as the operator says", body.Person)
		}
	case evidence.KeyRevoked:
		if err := put(r.tx.Bucket(tableRevoked), turnKey(body.Key, index), kept); err != nil {
			return err
		}
		if body.Revocation == "" {
			return r.found(KeyRevokedByOperator, true, index, "key "+string(body.Key), "nobody signed that this key of person %s is revoked", body.Person)
		}
	}
	return nil
}

// enrolledBefore looks at whether a person had enrolled a key before one that rests on a log-in: an honest server lets only the first
// key that a person ever enrols, whatever became of it, rest on that.
func (r *reading) enrolledBefore(kept past, body evidence.KeyEnrolled) error {
	table, person := r.tx.Bucket(tableEnrolled), []byte(body.Person)
	raw := table.Get(person)
	if raw == nil {
		return put(table, person, kept)
	}
	if body.IdentifiedBy != string(evidence.ByLogIn) {
		return nil
	}
	first, _, err := readPast(raw)
	if err != nil {
		return err
	}
	return r.found(SecondLogIn, false, kept.Index, "key "+string(body.Key), "it is of person %s by a log-in at Bitbucket only, and the log has an enrolment of theirs before, in leaf %d",
		body.Person, first.Index)
}

// leafName is a leaf's hash as statements name it.
func leafName(hash tlog.Hash) string { return hex.EncodeToString(hash[:]) }

// historyKey is the place of a version in the table of history.
func historyKey(workspace evidence.Digest, subject string, version int64) []byte {
	return fmt.Appendf(nil, "%s/%s/%016x", workspace, subject, version)
}

// time compares a leaf's time with those before it, with the checkpoints that did not have it, and with the clock.
func (r *reading) time(index int64, at time.Time) error {
	p, bound := r.progress, r.options.Late
	if at.After(r.now.Add(bound)) {
		return r.found(TimeAhead, false, index, "", "it says that it is of %s", at.Format(time.RFC3339)) // and is no measure for the next ones
	}
	if at.Before(p.Latest.Add(-bound)) {
		if err := r.found(TimeBackwards, false, index, "", "it says that it is of %s, after a leaf of %s", at.Format(time.RFC3339), p.Latest.Format(time.RFC3339)); err != nil {
			return err
		}
	}
	if at.After(p.Latest) {
		p.Latest = at
	}
	for _, s := range slices.Backward(p.Seen) {
		if s.Size > index {
			continue
		}
		if at.Before(s.At.Add(-bound)) {
			return r.found(LateLeaf, false, index, "", "it says that it is of %s, and at %s the log was published without it", at.Format(time.RFC3339), s.At.UTC().Format(time.RFC3339))
		}
		break
	}
	return nil
}

// version looks at a version of something that a workspace counts.
func (r *reading) version(kept past, leaf evidence.Leaf, subject string, version int64) error {
	table, key := r.tx.Bucket(tableHistory), historyKey(leaf.Workspace, subject, version)
	name := fmt.Sprintf("workspace %s %s version %d", leaf.Workspace, strings.Replace(subject, "/", " of repository ", 1), version)
	switch {
	case table.Get(key) != nil:
		return r.found(VersionGap, false, kept.Index, name+" again", "this version is in the log twice")
	case version > 1 && table.Get(historyKey(leaf.Workspace, subject, version-1)) == nil:
		if err := r.found(VersionGap, false, kept.Index, name, "the version before is not in the log before it"); err != nil {
			return err
		}
	}
	if err := r.tx.Bucket(tableTurns).Put(turnKey(leaf.Workspace, kept.Index), key); err != nil {
		return err
	}
	return put(table, key, kept)
}

// chained looks at a leaf of a pull request.
func (r *reading) chained(index int64, leaf evidence.Leaf, hash tlog.Hash) error {
	id, err := hex.DecodeString(string(leaf.Chain.ID))
	if err != nil {
		return err
	}
	workspace, err := hex.DecodeString(string(leaf.Workspace))
	if err != nil {
		return err
	}
	var end chainEnd
	table := r.tx.Bucket(tableChains)
	if raw := table.Get(id); raw != nil {
		if err := end.unmarshal(raw); err != nil {
			return err
		}
	}
	c := leaf.Chain
	about := fmt.Sprintf("chain %s leaf %d", c.ID, c.Sequence)
	switch {
	case c.Sequence <= end.sequence:
		return r.found(ChainFork, false, index, fmt.Sprintf("%s at %d", about, index), "the chain had %d leaves already: there are two histories of this pull request", end.sequence)
	case c.Sequence > end.sequence+1:
		if err := r.found(ChainGap, false, index, about, "the chain had %d leaves before", end.sequence); err != nil {
			return err
		}
	case c.Sequence > 1 && string(c.Previous) != leafName(end.leaf):
		if err := r.found(ChainFork, false, index, about, "it follows another leaf than the one before it: there are two histories of this pull request"); err != nil {
			return err
		}
	}
	// What is in doubt about it nobody would look at who follows the one or the other.
	if end.sequence > 0 && !bytes.Equal(end.workspace[:], workspace) {
		if err := r.found(ChainFork, false, index, about, "it is of another workspace than the leaf before it"); err != nil {
			return err
		}
	}
	if err := r.judged(index, leaf, end, about); err != nil {
		return err
	}
	end.sequence, end.leaf, end.workspace = c.Sequence, hash, tlog.Hash(workspace)
	end.follow(index, leaf)
	return table.Put(id, end.marshal())
}

// lets tells whether a verdict lets its request be merged.
func lets(verdict string) bool {
	return verdict == string(approval.Approved) || verdict == string(approval.Overridden)
}

// judged compares what was done with what the chain says before it.
func (r *reading) judged(index int64, leaf evidence.Leaf, end chainEnd, about string) error {
	switch body := leaf.Body.(type) {
	case evidence.MergeChecked:
		founded := body.Answer != evidence.AnswerYes || body.Code == evidence.CheckNoRule && end.request == "" ||
			end.request != "" && body.Request == end.request && body.Code == end.verdict && lets(end.verdict)
		if !founded {
			return r.found(UnfoundedYes, false, index, about, "the merge check of commit %s was answered yes (%s), and the chain's state is %s", body.Commit, body.Code, end)
		}
		if body.Answer == evidence.AnswerYes && body.Code == evidence.CheckNoRule {
			return r.doubted(leaf.Workspace, index, doubt{
				Subject: about, Time: leaf.Time, Destination: body.Destination, Chain: leaf.Chain.ID,
				Detail: fmt.Sprintf("the merge check of commit %s was answered yes because no rule asks for approval", body.Commit),
			})
		}
	case evidence.StatusPaid:
		return r.green(index, body, end, about)
	case evidence.Merged:
		return r.merged(index, body, end, about)
	case evidence.RequestOpened:
		if end.request != "" {
			return r.found(RequestUnclosed, false, index, about, "request %s was opened, and the chain's state is %s", body.Request, end)
		}
	case evidence.DecisionMade:
		if end.request == "" || body.Request != end.request || slices.ContainsFunc(end.ended, isLanded) {
			return r.found(UnfoundedDecision, false, index, about, "somebody decided about request %s, and by then it had ended or been merged, or was never opened: it is in nobody's evidence", body.Request)
		}
	case evidence.VerdictReached:
		return r.verdict(index, leaf, body, end, about)
	}
	return nil
}

// green compares a status that turned SUCCESSFUL. It can be paid after its request was closed: it was owed before.
func (r *reading) green(index int64, body evidence.StatusPaid, end chainEnd, about string) error {
	switch {
	case body.State != "SUCCESSFUL" || end.request != "" && body.Request == end.request && end.lit:
		return nil
	case slices.ContainsFunc(end.ended, func(ended string) bool { return strings.HasSuffix(ended, "/"+body.Request) }):
		return r.found(LateGreen, true, index, about, "the status of request %s, which had ended, turned SUCCESSFUL", body.Request)
	}
	return r.found(UnfoundedGreen, false, index, about, "the status of request %s turned SUCCESSFUL, and the chain's state is %s", body.Request, end)
}

// merged compares a merge. What was cancelled when Bitbucket did not show the pull request any more can turn out to have been merged.
func (r *reading) merged(index int64, body evidence.Merged, end chainEnd, about string) error {
	switch {
	case body.Kind == "violation":
		return r.found(Violation, false, index, about, "commit %s was merged and is not what was approved", body.Commit)
	case slices.ContainsFunc(end.ended, func(ended string) bool { return isLanded(ended) && ended != landed+body.Commit }):
		return r.found(Violation, false, index, about, "commit %s was merged as %s, and another commit had been merged before", body.Commit, body.Kind)
	case end.request != "" && body.Request == end.request && end.bears(body.Kind):
		return nil
	case slices.Contains(end.ended, "cancelled/"+body.Request):
		return r.found(LateMerge, true, index, about, "commit %s was merged as %s by request %s, which had been cancelled", body.Commit, body.Kind, body.Request)
	}
	return r.found(Violation, false, index, about, "commit %s was merged as %s, and the chain's state is %s", body.Commit, body.Kind, end)
}

// bears tells whether the last verdict, which no decision follows, lets its request be merged as a kind: what bore an override
// stays one, though it be approved by then.
func (c chainEnd) bears(kind string) bool {
	return !c.unjudged && (c.verdict == string(approval.Approved) || c.verdict == string(approval.Overridden) && kind == "override")
}

// verdict compares a verdict with what can lead to it.
func (r *reading) verdict(index int64, leaf evidence.Leaf, body evidence.VerdictReached, end chainEnd, about string) error {
	switch {
	case end.request == "" || body.Request != end.request:
		return r.found(UnfoundedVerdict, false, index, about, "request %s is said to be %s, and the chain's state is %s", body.Request, body.State, end)
	case lets(body.State) && !end.decided:
		return r.found(UnfoundedVerdict, false, index, about, "request %s is said to be %s, and nobody decided about it", body.Request, body.State)
	case lets(body.State) && end.verdict == string(approval.Expired):
		return r.found(UnfoundedVerdict, false, index, about, "request %s is said to be %s, and had expired", body.Request, body.State)
	case end.hurried > 0 && body.State == string(approval.Rejected):
		detail := fmt.Sprintf("the merge check was answered yes behind the decision that request %s is %s by", body.Request, body.State)
		roster, err := r.rosterSince(leaf.Workspace, end.hurried)
		if err != nil {
			return err
		}
		if !roster {
			return r.found(UnfoundedYes, false, index, about, "%s", detail)
		}
		if err := r.found(HurriedYes, true, index, about, "%s, or by the report of a stolen key that came in between", detail); err != nil {
			return err
		}
		return r.doubted(leaf.Workspace, index, doubt{Subject: about, Time: leaf.Time, Detail: detail, Since: end.hurried, Signed: time.Unix(end.signed, 0).UTC()})
	}
	return nil
}

// String says what is open.
func (c chainEnd) String() string {
	switch {
	case c.request == "":
		return "that no request is open"
	case c.verdict == "":
		return "that request " + c.request + " has no verdict"
	}
	return "that request " + c.request + " is " + c.verdict
}

// follow moves on over a leaf.
func (c *chainEnd) follow(index int64, leaf evidence.Leaf) {
	switch body := leaf.Body.(type) {
	case evidence.RequestOpened:
		c.open(body.Request)
	case evidence.DecisionMade:
		c.signed = leaf.Time.Unix()
		if c.request == body.Request {
			c.decided, c.unjudged, c.hurried = true, true, 0
		}
	case evidence.MergeChecked:
		// An answer counts the decisions by then, and their verdict follows. One that another decision follows before the verdict
		// is not told apart.
		if c.hurried == 0 && c.unjudged && body.Answer == evidence.AnswerYes && body.Code == evidence.CheckApproved {
			c.hurried = index
		}
	case evidence.VerdictReached:
		if c.request == body.Request {
			c.verdict, c.unjudged, c.hurried = body.State, false, 0
			c.lit = c.lit || lets(body.State)
		}
	case evidence.RequestClosed:
		if c.request == body.Request {
			if c.lit {
				reason := body.Reason
				if !c.bears("override") { // it was rejected, or taken back, before it ended
					reason = ""
				}
				c.ended = append(c.ended, reason+"/"+body.Request)
			}
			c.open("")
		}
	case evidence.Merged:
		if mark := landed + body.Commit; !slices.Contains(c.ended, mark) {
			c.ended = append(c.ended, mark)
		}
	}
}

// open begins with a request, or with none.
func (c *chainEnd) open(request string) {
	*c = chainEnd{sequence: c.sequence, leaf: c.leaf, workspace: c.workspace, signed: c.signed, request: request, ended: c.ended}
}

// readPast reads a leaf that was kept.
func readPast(raw []byte) (past, evidence.Leaf, error) {
	var kept past
	if err := json.Unmarshal(raw, &kept); err != nil {
		return kept, evidence.Leaf{}, err
	}
	leaf, err := evidence.ParseLeaf(kept.Entry)
	return kept, leaf, err
}
