package app

import "sync"

const (
	// maxAudits is how many audits run at once on a server, maxAuditsOfWorkspace how many of them of one workspace. A person
	// makes one at a time: who reads an audit slowly keeps nobody else's place.
	maxAudits            = 4
	maxAuditsOfWorkspace = 2
)

// auditPlaces are what audits run in. The zero value is ready, and it is safe for concurrent use.
type auditPlaces struct {
	guard   sync.Mutex
	running []auditPlace
}

type auditPlace struct{ person, workspace string }

// take takes a place, which leave gives back, or says why there is none.
func (p *auditPlaces) take(person, workspace string) (leave func(), full string) {
	p.guard.Lock()
	defer p.guard.Unlock()
	same := 0
	for _, r := range p.running {
		if r.person == person {
			return nil, "You are making an audit already; end it, or try again when it has ended."
		}
		if r.workspace == workspace {
			same++
		}
	}
	if same >= maxAuditsOfWorkspace {
		return nil, "As many audits of this workspace are made here as can be at once; try again in a while."
	}
	if len(p.running) >= maxAudits {
		return nil, "As many audits are made here as can be at once; try again in a while."
	}
	mine := auditPlace{person, workspace}
	p.running = append(p.running, mine)
	return func() {
		p.guard.Lock()
		defer p.guard.Unlock()
		for i, r := range p.running {
			if r == mine { // of a person there is one
				p.running = append(p.running[:i], p.running[i+1:]...)
				return
			}
		}
	}, ""
}
