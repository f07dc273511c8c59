package gate

import (
	"sync"

	"github.com/signedapproval/bitbucket/server/approval"
)

// policies are documents that were parsed: every evaluation asks what the rules in force say, and every status that turns green
// does once more. A document always says the same, and nobody changes what was read from it.
type policies struct {
	guard  sync.Mutex
	parsed map[string]approval.Policy // by document
}

// policiesKept is how many are kept; a document has up to 64 KiB.
const policiesKept = 64

func (p *policies) parse(document []byte) (approval.Policy, error) {
	p.guard.Lock()
	policy, found := p.parsed[string(document)]
	p.guard.Unlock()
	if found {
		return policy, nil
	}
	policy, err := approval.ParsePolicy(document)
	if err != nil {
		return policy, err
	}
	p.guard.Lock()
	defer p.guard.Unlock()
	if p.parsed == nil || len(p.parsed) == policiesKept {
		p.parsed = map[string]approval.Policy{}
	}
	p.parsed[string(document)] = policy
	return policy, nil
}
