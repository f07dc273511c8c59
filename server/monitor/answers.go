package monitor

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
)

// doubt is an answer of the merge check of which only the workspace's openings can tell whether it could be given.
type doubt struct {
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"` // of the leaf
	Detail  string    `json:"detail"`
	// Since is the leaf of a "yes" that a verdict of REJECTED and, in between, another roster followed; 0 in other doubts.
	Since int64 `json:"since"`
	// Destination is the branch of a "yes" under no rule, Chain the pull request; empty in other doubts.
	Destination evidence.Digest `json:"destination"`
	Chain       evidence.Digest `json:"chain"`
}

// doubted keeps a doubt about the leaf with an index.
func (r *reading) doubted(workspace evidence.Digest, index int64, d doubt) error {
	return put(r.tx.Bucket(tableDoubts), turnKey(workspace, index), d)
}

// rosterSince tells whether a version of a workspace's roster is in the log after a leaf, as far as it was read.
func (r *reading) rosterSince(workspace evidence.Digest, index int64) (found bool, err error) {
	err = turns(r.tx, workspace, index+1, func(_ int64, place []byte) error {
		found = found || bytes.Contains(place, []byte("/roster/"))
		return nil
	})
	return found, err
}

// answers looks at the answers of the merge check that were in doubt, in the order of the log. What the openings do not tell
// is looked at again until they do. It returns whether they told all.
func (r *replay) answers() (told bool, err error) {
	told = true
	var history *pastRules
	err = turnsIn(r.tx.Bucket(tableDoubts), r.ID, r.Answers, func(index int64, raw []byte) error {
		var d doubt
		if err := json.Unmarshal(raw, &d); err != nil {
			return err
		}
		if history == nil {
			if history, err = r.pastRules(); err != nil {
				return err
			}
		}
		var known bool
		if d.Destination != "" {
			known = r.ruleless(index, d, history)
		} else {
			known = r.hurried(index, d, history)
		}
		if told = told && known; told {
			r.Answers = index + 1
		}
		return nil
	})
	return told, err
}

// pastRules are the versions of roster and policies in the log, in its order.
type pastRules struct {
	rosters  []versionAt
	policies map[evidence.Digest][]versionAt // by repository
	// branches are names that a branch in a leaf may stand for.
	branches map[evidence.Digest]string
}

// versionAt is a version of something with where it is in the log.
type versionAt struct {
	index, version int64
	time           time.Time
}

func (r *replay) pastRules() (*pastRules, error) {
	p := pastRules{policies: map[evidence.Digest][]versionAt{}, branches: map[evidence.Digest]string{}}
	err := turns(r.tx, r.ID, 0, func(index int64, place []byte) error {
		_, leaf, err := readPast(r.tx.Bucket(tableHistory).Get(place))
		if err != nil {
			return err
		}
		switch body := leaf.Body.(type) {
		case evidence.RosterVersion:
			p.rosters = append(p.rosters, versionAt{index, body.Version, leaf.Time})
		case evidence.PolicyVersion:
			p.policies[body.Repository] = append(p.policies[body.Repository], versionAt{index, body.Version, leaf.Time})
		}
		return nil
	})
	name := func(repository, branch string) { p.branches[evidence.BranchID(r.o.Salt, repository, branch)] = branch }
	for _, c := range r.o.Chains {
		if c.Branch != "" {
			name(c.Repository, c.Branch)
		}
	}
	for _, opened := range r.o.Policies {
		if policy, err := approval.ParsePolicy(opened.Policy); err == nil {
			for _, rule := range policy.Rules {
				for _, pattern := range rule.Branches { // one without wildcards is a name
					name(opened.Repository, pattern)
				}
			}
		}
	}
	return &p, err
}

// hurried looks at a verdict of REJECTED that followed a "yes" without a decision in between. The report that a key was stolen makes
// that of an honest answer, where the key had taken a rejection back; another change of the roster does not.
func (r *replay) hurried(index int64, d doubt, history *pastRules) (told bool) {
	for _, v := range history.rosters {
		if v.index < d.Since || v.index > index {
			continue
		}
		if v.version > r.roster.Versions() {
			return false
		}
		if change, _ := r.roster.Change(v.version); change.Event == evidence.KeyRemoved && change.CompromisedSince != nil {
			return true
		}
	}
	r.found(UnfoundedYes, false, index, d.Subject, "%s; no report of a stolen key came in between.", d.Detail)
	return true
}

// ruleless looks at a "yes" because no rule asks for approval of a branch.
func (r *replay) ruleless(index int64, d doubt, history *pastRules) (told bool) {
	at := slices.IndexFunc(r.o.Chains, func(c evidence.OpenedChain) bool { return c.ID == d.Chain })
	if at < 0 {
		return true // a server leaves out what is not on record any more
	}
	repository := r.o.Chains[at].Repository
	branch, named := history.branches[d.Destination]
	// Of those that were in force when the question may have been put, the one that asks for least.
	asks, told := false, true
	for _, v := range history.policies[evidence.RepositoryID(r.o.Salt, repository)] {
		if v.index > index {
			break
		}
		opened, found := r.policies[policyPlace{evidence.RepositoryID(r.o.Salt, repository), v.version}]
		covers := false
		switch policy, err := approval.ParsePolicy(opened.Policy); {
		case !found:
			told = false
		case err != nil: // gated no longer, or by what no server of this version reads either
		case named:
			_, _, covers = policy.Match(branch)
		default:
			covers = len(policy.Rules) > 0
		}
		asks = covers && (asks || !v.time.After(d.Time.Add(-r.options.Late)))
	}
	switch {
	case !told:
		return false
	case asks && named:
		r.found(UnfoundedYes, false, index, d.Subject, "%s, and a rule in force in repository %s asks for approval of branch %s.", d.Detail, repository, plain(branch))
	case asks:
		r.found(UntoldBranch, true, index, d.Subject, "%s. Which branch that was neither the openings nor a rule say; repository %s had rules.", d.Detail, repository)
	}
	return true
}
