package gate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/passkey/passkeytest"
	"github.com/signedapproval/bitbucket/server/store"
)

// fallen lists what reports took down, the newest first.
func (w *world) fallen() (list []store.FallenVerdict) {
	w.t.Helper()
	w.in(func(tx *store.Tx) error {
		page := store.Page{First: 2}
		for more := true; more; {
			var rows []store.FallenVerdict
			var err error
			if rows, more, err = tx.FallenVerdicts(w.t.Context(), page); err != nil {
				return err
			}
			if list = append(list, rows...); more {
				page.After = rows[len(rows)-1].Cursor()
			}
		}
		return nil
	})
	return list
}

// fell asks that the only report there was took down one request, or nothing, and that alice, who administers, was told so once.
func (w *world) fell(request string, falls bool, name string) {
	w.t.Helper()
	list := w.fallen()
	told := w.told("KEY_STOLEN")
	if len(told) != 1 || told[0].PersonID != w.people["alice"].ID || told[0].Title != "A passkey of Bob was reported as stolen" || !strings.HasPrefix(told[0].Path, "/settings/keys?workspace=") {
		w.t.Fatalf("the administrators were told %+v", told)
	}
	if !falls {
		if len(list) != 0 || !strings.HasSuffix(told[0].Sentence, "Nothing that was approved or overridden falls with it.") {
			w.t.Errorf("%+v fell: %s", list, told[0].Sentence)
		}
		return
	}
	merged := strings.HasPrefix(name, "merged")
	if len(list) != 1 || list[0].RequestID != request || list[0].Merged != merged || !strings.Contains(told[0].Sentence, fmt.Sprintf("stands no longer on 1 pull request, %d of them merged: #1 in acme/rocket", map[bool]int{true: 1}[merged])) {
		w.t.Errorf("%+v fell: %s", list, told[0].Sentence)
	}
}

// told lists the notices of a kind in everybody's inbox.
func (w *world) told(kind string) (notices []store.Notice) {
	w.t.Helper()
	for _, p := range w.people {
		w.must(w.store.Outside(w.t.Context(), func(sh *store.Shared) error {
			all, _, err := sh.Notices(w.t.Context(), p.ID, w.workspace, store.Page{First: 100})
			notices = append(notices, slices.DeleteFunc(all, func(n store.Notice) bool { return n.Kind != kind })...)
			return err
		}))
	}
	return notices
}

// TestWhatAReportTakesDownWhileItIsOpen looks at what was green when a key was reported, before and after it was tallied anew: it
// fell, unless it stands again by then, or what took it was something else.
func TestWhatAReportTakesDownWhileItIsOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, meanwhile func(w *world, number int64) // the report, and between its roster and the look
		as                approval.State               // empty where nothing fell
	}{
		"green, and not tallied since": {func(w *world, n int64) { w.decides(n, "bob", approval.Approve) }, func(*world, int64) {}, approval.Pending},
		"green, and tallied since":     {func(w *world, n int64) { w.decides(n, "bob", approval.Approve) }, func(w *world, _ int64) { w.onlyAll(store.KindEvaluate) }, approval.Pending},
		"green, and then closed": {func(w *world, n int64) { w.decides(n, "bob", approval.Approve) }, func(w *world, n int64) {
			w.onlyAll(store.KindEvaluate)
			w.edit(n, map[string]any{"draft": true})
			w.event(n)
			w.onlyAll(store.KindEvaluate)
		}, approval.Pending},
		"green again by another": {func(w *world, n int64) { w.decides(n, "bob", approval.Approve) }, func(w *world, n int64) {
			w.onlyAll(store.KindEvaluate)
			w.decides(n, "carol", approval.Approve)
			w.onlyAll(store.KindEvaluate)
		}, ""},
		"another one suffices, and withdraws since": {func(w *world, n int64) {
			w.decides(n, "bob", approval.Approve)
			w.decides(n, "carol", approval.Approve)
		}, func(w *world, n int64) {
			w.onlyAll(store.KindEvaluate)
			w.decides(n, "carol", approval.Withdraw)
			w.onlyAll(store.KindEvaluate)
		}, ""},
		"rejected before": {func(w *world, n int64) {
			w.decides(n, "bob", approval.Approve)
			w.settle()
			w.decides(n, "carol", approval.Reject)
		}, func(*world, int64) {}, ""},
		"approved by another": {func(w *world, n int64) {
			w.decides(n, "bob", approval.Approve)
			w.decides(n, "bob", approval.Withdraw)
			w.decides(n, "carol", approval.Approve)
		}, func(*world, int64) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.administrator()
			w.save(w.rule(1, "bob", "carol"))
			number := w.open()
			w.settle()
			c.before(w, number)
			w.settle()
			id := w.view(number).Request.ID
			w.reportStolen("bob")
			w.onlyAll(store.KindRoster)
			c.meanwhile(w, number)
			w.onlyAll(store.KindFallen)
			w.drainAll()
			w.fell(id, c.as != "", name)
			if list := w.fallen(); c.as != "" && (list[0].StandsAs != string(c.as) || list[0].Was != store.RequestApproved) {
				t.Errorf("it is %+v", list)
			}
		})
	}
}

// TestAReportThatTakesDownMuch has a key approve many pull requests, some with a key that it enrolled, and then reports it: the notice
// counts all and names some, the list has them all, and what is looked at once more is told no second time. By a report of an
// earlier time nothing falls again.
func TestAReportThatTakesDownMuch(t *testing.T) {
	w := newWorld(t)
	w.administrator()
	w.save(w.rule(1, "bob", "carol"))
	ctx, bob, first := t.Context(), w.people["bob"], w.people["bob"].key
	approves := func(name string) string {
		number := w.openOn(name)
		w.settle()
		w.decides(number, "bob", approval.Approve)
		w.settle()
		return w.view(number).Request.ID
	}
	bob.key = passkeytest.New(origin)
	w.enrol(bob)
	stolen, since := w.keyID(bob), time.Now().Add(-time.Hour)
	var want []string
	for n := range 4 {
		want = append(want, approves(fmt.Sprint("with-", n)))
	}
	bob.key = passkeytest.New(origin)
	w.enrol(bob) // with the stolen one
	for n := range 3 {
		want = append(want, approves(fmt.Sprint("resting-", n)))
	}
	w.revokes(bob, stolen, first, since)
	w.drainAll()
	list := w.fallen()
	var got []string
	for _, v := range list {
		got = append(got, v.RequestID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v fell, want %v", got, want)
	}
	told := w.told("KEY_STOLEN")
	if len(told) != 1 || !strings.Contains(told[0].Sentence, "on 7 pull requests, 0 of them merged: #1 in acme/rocket, ") || !strings.Contains(told[0].Sentence, ", and 2 more. ") {
		t.Fatalf("the administrators were told %+v", told)
	}
	// Once more, as after a crash.
	w.in(func(tx *store.Tx) error { return tx.Enqueue(ctx, store.AskFallen(w.workspace, list[0].RosterVersion)) })
	w.drainAll()
	if again := w.told("KEY_STOLEN"); len(again) != 1 || len(w.fallen()) != len(list) {
		t.Errorf("told %+v of %+v", again, w.fallen())
	}
	w.revokes(bob, stolen, first, since.Add(-time.Hour))
	w.drainAll()
	told = w.told("KEY_STOLEN")
	if now := w.fallen(); len(told) != 2 || !strings.HasSuffix(told[0].Sentence, "Nothing that was approved or overridden falls with it.") || len(now) != len(list) {
		t.Errorf("told %+v of %+v", told, now)
	}
}
