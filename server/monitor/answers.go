package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
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
	// Signed is the time of the last decision on the pull request before such a "yes".
	Signed time.Time `json:"signed"`
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

// pastRules are the versions of roster and policies in the log, in its order, and what the openings tell of the rest.
type pastRules struct {
	rosters  []versionAt
	policies map[evidence.Digest][]policyAt // by repository
	// branches are those that one in a leaf may stand for.
	branches map[evidence.Digest]branchOf
	chains   map[evidence.Digest]evidence.OpenedChain
}

// versionAt is a version of something with where it is in the log.
type versionAt struct {
	index, version int64
	time           time.Time
}

// policyAt is a version of a policy. policy is nil where it gates the repository no longer, and where it is not told what it
// gates, since the openings leave it out, have another one, or one that cannot be read: untold says so then.
type policyAt struct {
	versionAt
	policy *approval.Policy
	untold *Finding
}

// branchOf is a branch of a repository, or a pattern of branches.
type branchOf struct{ repository, name string }

func (r *replay) pastRules() (*pastRules, error) {
	p := pastRules{
		policies: map[evidence.Digest][]policyAt{}, branches: map[evidence.Digest]branchOf{}, chains: map[evidence.Digest]evidence.OpenedChain{},
	}
	name := func(repository, branch string) {
		p.branches[evidence.BranchID(r.o.Salt, repository, branch)] = branchOf{repository, branch}
	}
	for _, opened := range r.o.Policies {
		if policy, err := evidence.ReadPolicy(opened.Policy); err == nil {
			for _, rule := range policy.Rules {
				for _, pattern := range rule.Branches { // one without wildcards is a name
					name(opened.Repository, pattern)
				}
			}
		}
	}
	for _, c := range r.o.Chains {
		p.chains[c.ID] = c
		if c.Branch != "" {
			name(c.Repository, c.Branch)
		}
	}
	err := turns(r.tx, r.ID, 0, func(index int64, place []byte) error {
		_, leaf, err := readPast(r.tx.Bucket(tableHistory).Get(place))
		if err != nil {
			return err
		}
		switch body := leaf.Body.(type) {
		case evidence.RosterVersion:
			p.rosters = append(p.rosters, versionAt{index, body.Version, leaf.Time})
		case evidence.PolicyVersion:
			v := r.policyAt(index, body)
			v.time = leaf.Time
			p.policies[body.Repository] = append(p.policies[body.Repository], v)
		}
		return nil
	})
	return &p, err
}

// policyAt is the version of a policy of a leaf, as the openings tell it now: they may have told another when it was judged.
func (r *replay) policyAt(index int64, body evidence.PolicyVersion) policyAt {
	v := policyAt{versionAt: versionAt{index: index, version: body.Version}}
	opened, found := r.policies[policyPlace{body.Repository, body.Version}]
	untold := func(code Code, repository, detail string, args ...any) {
		subject := fmt.Sprintf("policy of repository %s version %d", repository, body.Version)
		v.untold = &Finding{Code: code, Subject: subject, Detail: fmt.Sprintf(detail, args...), Leaf: &index, Time: r.now}
	}
	if !found {
		untold(PolicyWrong, string(body.Repository), "The log has this version, and the openings of workspace %s do not.", r.o.Workspace)
		return v
	}
	if why := differs(opened.Policy, body.Policy); why != "" {
		untold(PolicyWrong, opened.Repository, "The log names another policy than the openings: %s.", why)
		return v
	}
	if body.Policy == "" {
		return v
	}
	policy, err := evidence.ReadPolicy(opened.Policy)
	if err != nil {
		untold(PolicyUnreadable, opened.Repository,
			"What it gates cannot be told, and no answer of the merge check that rests on it is judged, unless a newer version of this monitor reads it: %s.", plain(err.Error()))
		return v
	}
	v.policy = &policy
	return v
}

// hurried looks at a verdict of REJECTED that followed a "yes" without a decision in between. The report that a key was stolen makes
// that of an honest answer, where the key, or one that it signed for, had taken a rejection back. Whose keys decided the openings do not
// tell, but which ones cannot have: those that came into the roster behind the answer, or were in other hands only after all that was
// decided. Another change of the roster does not.
func (r *replay) hurried(index int64, d doubt, history *pastRules) (told bool) {
	answered := int64(0) // the version of the roster at the answer
	for _, v := range history.rosters {
		if v.index > index {
			break
		}
		if v.index < d.Since {
			answered = v.version
			continue
		}
		if v.version > r.roster.Versions() {
			return false
		}
		change, _ := r.roster.Change(v.version)
		if change.Event != evidence.KeyRemoved || change.CompromisedSince == nil || change.CompromisedSince.After(d.Signed) {
			continue
		}
		if key, found := r.roster.Key(change.Key.CredentialID); found && key.Added <= answered {
			return true
		}
	}
	r.found(UnfoundedYes, false, index, d.Subject, "%s; no report of a stolen key that can have decided came in between.", d.Detail)
	return true
}

// ruleless looks at a "yes" because no rule asks for approval of a branch. What stands for a branch in a leaf stands for its
// repository too, so that a branch that is named needs no chain to be judged. But nobody can tell that it is the branch of a pull
// request that the openings leave out, wherever any repository had rules.
func (r *replay) ruleless(index int64, d doubt, history *pastRules) (told bool) {
	since := d.Time.Add(-r.options.Late)
	branch, named := history.branches[d.Destination]
	chain, opened := history.chains[d.Chain]
	other := opened && evidence.ChainID(r.o.Salt, chain.Repository, chain.PullRequest) != d.Chain
	if other {
		opened = false
		r.lasts(OpeningsWrong, "chain "+string(d.Chain), "It is not of pull request %d of repository %s, as the openings say.", chain.PullRequest, chain.Repository)
	}
	if opened && named && chain.Repository != branch.repository {
		r.found(UnfoundedYes, false, index, d.Subject, "%s of branch %s of repository %s, and the pull request is one of repository %s.",
			d.Detail, plain(branch.name), branch.repository, chain.Repository)
		return true
	}
	if named {
		asks, untold := history.asks(evidence.RepositoryID(r.o.Salt, branch.repository), index, since, func(p *approval.Policy) bool {
			_, _, covers := p.Match(branch.name)
			return covers
		})
		if asks {
			r.found(UnfoundedYes, false, index, d.Subject, "%s, and a rule in force in repository %s asks for approval of branch %s.", d.Detail, branch.repository, plain(branch.name))
		}
		if asks || opened || len(untold) > 0 {
			r.lasting = append(r.lasting, untold...)
			return len(untold) == 0
		}
	}
	var untold []Finding
	about, saying := maps.Keys(history.policies), "Of which pull request that was the openings do not say; a repository had rules."
	if opened {
		about = slices.Values([]evidence.Digest{evidence.RepositoryID(r.o.Salt, chain.Repository)})
		saying = fmt.Sprintf("Which branch that was neither the openings nor a rule say; repository %s had rules.", chain.Repository)
	}
	for repository := range about {
		asks, more := history.asks(repository, index, since, func(p *approval.Policy) bool { return len(p.Rules) > 0 })
		if asks {
			r.found(UntoldBranch, true, index, d.Subject, "%s. %s", d.Detail, saying)
			return !other
		}
		untold = append(untold, more...)
	}
	r.lasting = append(r.lasting, untold...)
	return len(untold) == 0 && !other
}

// asks tells whether the rules of a repository that were in force at a leaf ask for something: all of those that were since a
// moment. Where the openings do not tell what one of them gates, it asks for nothing, and what is untold keeps the leaf from being judged.
func (p *pastRules) asks(repository evidence.Digest, index int64, since time.Time, covers func(*approval.Policy) bool) (asks bool, untold []Finding) {
	for _, v := range p.policies[repository] {
		if v.index > index {
			break
		}
		covered := v.policy != nil && covers(v.policy)
		if v.time.After(since) {
			asks = asks && covered
		} else { // it took the place of those before it
			asks, untold = covered, nil
		}
		if v.untold != nil {
			untold = append(untold, *v.untold)
		}
	}
	return asks && len(untold) == 0, untold
}
