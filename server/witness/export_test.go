package witness

import "time"

// WaitFor has a publication, and every witness, waited for as long as that, for tests in which one hangs.
func (p *Publisher) WaitFor(patience time.Duration) {
	p.patience = patience
	for _, w := range p.Witnesses {
		w.patience, w.client = patience, client(patience)
	}
}
