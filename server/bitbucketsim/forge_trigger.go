package bitbucketsim

import (
	"regexp"
	"slices"
	"time"
)

// emitForge queues an event for every installation in the workspace that has a trigger for it and the scope that
// it needs. self is the account whose doing it is.
func (s *Sim) emitForge(w *workspace, event string, actor *person, body object) {
	for _, inst := range s.forgeIn(w) {
		if scope := forgeEvents[event]; scope != "" && !inst.version.manifest.hasScope(scope) {
			continue
		}
		for _, m := range inst.version.manifest.Modules[moduleTrigger] {
			if !slices.Contains(m.Events, event) {
				continue
			}
			full := object{"eventType": event, "selfGenerated": actor != nil && actor == inst.account}
			for k, v := range body {
				full[k] = v
			}
			s.enqueueForge(s.newForgeDelivery(inst, m, "event", event, full))
		}
	}
}

// emitLifecycle queues a lifecycle event for the app itself.
func (s *Sim) emitLifecycle(inst *forgeInstallation, event string, more object) {
	v := inst.version
	body := object{
		"id": inst.id, "eventType": event, "context": workspaceARI(inst.workspace),
		"app": object{
			"id": v.app.bareID(), "version": v.name(), "name": v.spec.Name, "ownerAccountId": v.app.owner,
		},
		"environment": object{"id": lastPart(v.app.environmentID)},
	}
	for k, x := range more {
		body[k] = x
	}
	for _, m := range v.manifest.Modules[moduleTrigger] {
		if slices.Contains(m.Events, event) {
			s.enqueueForge(s.newForgeDelivery(inst, m, "lifecycle", event, body))
		}
	}
}

// enqueueForge applies the faults and hands the invocation to its installation's queue.
func (s *Sim) enqueueForge(d *forgeDelivery) {
	if d == nil {
		return
	}
	if f := s.forgeFault(d); f != nil {
		d.delay, d.copies = time.Duration(f.DelayMS)*time.Millisecond, f.Duplicate
		switch {
		case f.Drop:
			d.State = "dropped"
			s.changed.Broadcast()
			return
		case f.Reorder:
			d.State = "held"
			s.forgeHeld = append(s.forgeHeld, d)
			s.changed.Broadcast()
			return
		}
	}
	late := s.forgeHeld
	s.forgeHeld = nil
	for _, x := range append([]*forgeDelivery{d}, late...) {
		s.sendForge(x)
	}
}

func (s *Sim) sendForge(d *forgeDelivery) {
	d.State = "waiting"
	d.inst.queue = append(d.inst.queue, d)
	if d.inst.senders >= s.opts.Forge.Senders || s.ctx.Err() != nil {
		return
	}
	d.inst.senders++
	s.work.Go(func() { s.sendForgeQueue(d.inst) })
}

// sendForgeQueue makes the first attempts of an installation's events in order, until there are none.
func (s *Sim) sendForgeQueue(inst *forgeInstallation) {
	for {
		s.mu.Lock()
		if len(inst.queue) == 0 || s.ctx.Err() != nil {
			inst.senders--
			s.mu.Unlock()
			return
		}
		d := inst.queue[0]
		inst.queue = inst.queue[1:]
		s.mu.Unlock()
		if !s.pause(d.delay, nil) {
			continue
		}
		ok, reason := false, ""
		for range d.copies + 1 {
			var why string
			if _, why = s.attemptForge(d, 1, d.Body, s.opts.Forge.EventTimeout); why == "" {
				ok = true
			} else {
				reason = why
			}
		}
		if ok {
			s.setForgeState(d, "delivered")
			continue
		}
		s.setForgeState(d, "retrying")
		s.retryForge(d, reason)
	}
}

// pause waits, also where it need not. It is false once the Sim ends; early ends it before its time.
func (s *Sim) pause(d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-s.ctx.Done():
		return false
	}
	return true
}

// retryForge sends an event again after the pause, up to four times. Later events do not wait for it.
func (s *Sim) retryForge(d *forgeDelivery, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	s.work.Go(func() {
		for n := 1; n <= maxForgeRetries; n++ {
			s.mu.Lock()
			early := s.forgeRetryNow
			s.mu.Unlock()
			if !s.pause(s.opts.Forge.RetryPause, early) {
				return
			}
			s.mu.Lock()
			gone := d.inst.state != forgeInstalled
			s.mu.Unlock()
			if gone {
				s.setForgeState(d, "dropped")
				return
			}
			var why string
			if _, why = s.attemptForge(d, n+1, d.render(n, reason), s.opts.Forge.EventTimeout); why == "" {
				s.setForgeState(d, "delivered")
				return
			}
			reason = why
		}
		s.setForgeState(d, "failed")
	})
}

// RetryForgeEvents ends the pause of every event that waits for its next attempt.
func (s *Sim) RetryForgeEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.forgeRetryNow)
	s.forgeRetryNow = make(chan struct{})
}

// dropEvents gives up what an installation was not told yet.
func (s *Sim) dropEvents(inst *forgeInstallation) {
	for _, d := range inst.queue {
		d.State = "dropped"
	}
	inst.queue = nil
	s.forgeHeld = slices.DeleteFunc(s.forgeHeld, func(d *forgeDelivery) bool {
		if d.inst == inst {
			d.State = "dropped"
		}
		return d.inst == inst
	})
	s.changed.Broadcast()
}

// AddForgeFault puts a fault on the events of Forge in place; Event is matched against their names, such as
// "avi:bitbucket:push:repository". ClearFaults removes it.
func (s *Sim) AddForgeFault(f WebhookFault) (WebhookFault, error) {
	pattern, err := regexp.Compile(f.Event)
	if err != nil {
		return f, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f.pattern, f.ID = pattern, s.id()
	s.forgeFaults = append(s.forgeFaults, &f)
	return f, nil
}

func (s *Sim) forgeFault(d *forgeDelivery) *WebhookFault {
	return strike(&s.forgeFaults, d.Name)
}

// scheduleIntervals are those of the manifest.
var scheduleIntervals = map[string]time.Duration{
	"fiveMinute": 5 * time.Minute, "hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

// RunForgeSchedules runs the scheduled triggers of every installation now, whatever the time, and tells how many
// were queued.
func (s *Sim) RunForgeSchedules() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runSchedules(func(*forgeInstallation, *forgeModule) bool { return true })
}

func (s *Sim) runSchedules(due func(*forgeInstallation, *forgeModule) bool) int {
	n := 0
	for _, inst := range s.forgeInstallations {
		if inst.state != forgeInstalled {
			continue
		}
		for _, m := range inst.version.manifest.Modules[moduleScheduled] {
			if !due(inst, m) {
				continue
			}
			inst.ranAt[m.Key] = time.Now()
			s.enqueueForge(s.newForgeDelivery(inst, m, "schedule", moduleScheduled, object{
				"context":      object{"workspaceId": inst.workspace.uuid, "moduleKey": m.Key},
				"contextToken": newSecret(),
			}))
			n++
		}
	}
	return n
}

// keepSchedules runs what is due by the machine's clock, until the Sim ends. A trigger runs first one interval
// after the installation.
func (s *Sim) keepSchedules() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		s.runSchedules(func(inst *forgeInstallation, m *forgeModule) bool {
			last, ran := inst.ranAt[m.Key]
			if !ran {
				last = inst.since
			}
			interval := scheduleIntervals[m.Interval]
			return interval > 0 && time.Since(last) >= interval
		})
		s.mu.Unlock()
	}
}
