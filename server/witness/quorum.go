package witness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// ErrUncosigned says that fewer witnesses cosigned a checkpoint than are asked for.
var ErrUncosigned = errors.New("too few witnesses cosigned the checkpoint")

const (
	// gatherPace is how often it is looked for cosignatures that nobody waits for.
	gatherPace = 2 * time.Second
	// gatherRest is how long a witness that does not cosign is left alone at most, where nobody waits for it.
	gatherRest = 5 * time.Minute
	// publishRounds is how often a publication begins anew because a witness has seen one of another server.
	publishRounds = 4
)

// cosigners tells which witnesses cosigned a checkpoint: by their signatures, whatever the record says of them.
func (p *Publisher) cosigners(signed []byte) map[string]bool {
	found := map[string]bool{}
	for _, w := range p.Witnesses {
		if _, err := note.Open(signed, note.VerifierList(w.verifier)); err == nil {
			found[w.ID()] = true
		}
	}
	return found
}

// answer is what became of one witness.
type answer struct {
	Cosignature
	err error
}

// ask has witnesses cosign a checkpoint, all at once, and returns when enough of them have. What comes later is
// handed to whoever calls rest, which ends within the time that a witness has; nobody needs to. Fewer
// cosignatures come with an error.
func (p *Publisher) ask(ctx context.Context, head Head, signed []byte, witnesses []*Witness, enough int) (given []Cosignature, rest func(func(Cosignature)), err error) {
	turn, release := context.WithCancel(ctx)
	defer release()
	answers := make(chan answer, len(witnesses))
	for _, w := range witnesses {
		// One that is free is asked, even if the others have answered by the time that its goroutine gets to run.
		free := w.take()
		go func() {
			if !free {
				if err := w.await(turn); err != nil {
					answers <- answer{err: fmt.Errorf("witness %s: %w", w.Name(), err)}
					return
				}
			}
			start := time.Now()
			cosignature, err := w.cosign(ctx, p.Log, head, signed)
			p.told(ctx, w, time.Since(start), err)
			w.leave() // before it is known that it answered, so that whoever knows it finds it free
			if err != nil {
				err = fmt.Errorf("witness %s: %w", w.Name(), err)
			}
			answers <- answer{cosignature, err}
		}()
	}
	left := len(witnesses)
	rest = func(late func(Cosignature)) {
		for ; left > 0; left-- {
			if a := <-answers; a.err == nil {
				late(a.Cosignature)
			}
		}
	}
	failed := []error{ErrUncosigned}
	for left > 0 && len(given) < enough {
		select {
		case a := <-answers:
			left--
			if a.err != nil {
				failed = append(failed, a.err)
			} else {
				given = append(given, a.Cosignature)
			}
		case <-ctx.Done():
			return given, rest, fmt.Errorf("%w: %w", ErrUncosigned, ctx.Err())
		}
	}
	if len(given) < enough {
		err = errors.Join(failed...)
	}
	return given, rest, err
}

// told passes on what became of a witness, and says in the logger what is news.
func (p *Publisher) told(ctx context.Context, w *Witness, took time.Duration, err error) {
	outcome, news := w.tell(err)
	if p.ObserveWitness != nil {
		p.ObserveWitness(w.Name(), outcome, took)
	}
	switch {
	case !news:
	case err == nil:
		p.Logger.InfoContext(ctx, "a witness cosigns again", "witness", w.Name())
	default:
		p.Logger.ErrorContext(ctx, "a witness does not cosign the log", "witness", w.Name(), "outcome", outcome, "error", err)
	}
}

// record puts cosignatures on record beside a checkpoint that is there.
func (p *Publisher) record(ctx context.Context, size int64, cosignatures ...Cosignature) error {
	for _, c := range cosignatures {
		if err := p.Log.Cosign(ctx, size, c); err != nil {
			return err
		}
	}
	return nil
}

// later records what still comes for a checkpoint that is on record, and returns at once.
func (p *Publisher) later(ctx context.Context, size int64, rest func(func(Cosignature))) {
	go rest(func(c Cosignature) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTime)
		defer cancel()
		if err := p.record(ctx, size, c); err != nil {
			p.Logger.WarnContext(ctx, "a cosignature was not put on record; it will be asked for again", "witness", c.Witness, "error", err)
		}
	})
}

// missing gives the witnesses that did not cosign a checkpoint yet.
func (p *Publisher) missing(signed []byte) (witnesses []*Witness) {
	have := p.cosigners(signed)
	for _, w := range p.Witnesses {
		if !have[w.ID()] {
			witnesses = append(witnesses, w)
		}
	}
	return witnesses
}

// gather has the newest checkpoint on record cosigned by so many witnesses. Of those who demand as many, which comes to
// waiting for the same ones, one at a time asks; whoever waits meanwhile finds what it found. Who demands fewer waits for
// none that is hung, and so for nobody who does.
func (p *Publisher) gather(ctx context.Context, quorum int) error {
	turn := p.asking[quorum]
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-turn }()
	newest, err := p.Log.Newest(ctx)
	if err != nil || newest == nil || !p.ours(newest) {
		return err
	}
	missing := p.missing(newest.Note)
	enough := quorum - (len(p.Witnesses) - len(missing))
	if enough <= 0 {
		return nil
	}
	given, rest, err := p.ask(ctx, newest.Head, bare(p.Keys.origin, newest.Note), missing, enough)
	// Whoever waits may not any longer; what some have cosigned by then is not lost.
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTime)
	defer cancel()
	err = errors.Join(err, p.record(recording, newest.Size, given...))
	p.later(ctx, newest.Size, rest)
	return err
}

// follow has the newest checkpoint cosigned by every witness, without haste, until ctx ends. Each is asked by itself: one
// that hangs keeps none of the others from what came meanwhile.
func (p *Publisher) follow(ctx context.Context) {
	type rest struct {
		asked bool // and has not answered yet
		until time.Time
		pause time.Duration
	}
	resting := map[*Witness]rest{}
	type end struct {
		witness  *Witness
		cosigned bool
	}
	ends := make(chan end, len(p.Witnesses))
	var asked sync.WaitGroup
	defer asked.Wait()
	tick := time.NewTicker(gatherPace)
	defer tick.Stop()
	for {
		newest, err := p.Log.Newest(ctx)
		if err == nil && newest != nil && p.ours(newest) {
			for _, w := range p.missing(newest.Note) {
				if r := resting[w]; r.asked || time.Now().Before(r.until) {
					continue
				}
				resting[w] = rest{asked: true, pause: resting[w].pause}
				asked.Go(func() { ends <- end{w, p.follows(ctx, w, newest)} })
			}
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case e := <-ends:
				if e.cosigned {
					delete(resting, e.witness)
					continue
				}
				pause := min(max(2*resting[e.witness].pause, gatherPace), gatherRest)
				resting[e.witness] = rest{until: time.Now().Add(pause), pause: pause}
			case <-tick.C:
				waiting = false
			}
		}
	}
}

// follows has one witness cosign a checkpoint on record, and tells whether it did.
func (p *Publisher) follows(ctx context.Context, w *Witness, newest *Checkpoint) bool {
	given, _, _ := p.ask(ctx, newest.Head, bare(p.Keys.origin, newest.Note), []*Witness{w}, 1) // told already
	if err := p.record(ctx, newest.Size, given...); err != nil && ctx.Err() == nil {
		p.Logger.WarnContext(ctx, "cosignatures were not put on record; they will be asked for again", "error", err)
	}
	return len(given) > 0
}
