package invariant

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// jobs: whatever is owed has a job that sees to it, and no job waits longer than the sweep allows.
func (c *check) jobs() {
	for key, row := range c.statusRows {
		j, found := c.jobRows[jobKey{"status", key.PullRequest + ":" + key.Commit}]
		if row.Owed > row.Paid && (!found || j.State == "DONE") {
			c.breaks("%s: a status is owed on %s, and no job will pay it", c.nameOf(key.PullRequest), key.Commit[:12])
		}
		if row.Owed > row.Paid && c.atRest && c.Overdue > 0 {
			c.breaks("%s: a status is still owed on %s: %s", c.nameOf(key.PullRequest), key.Commit[:12], j.LastError)
		}
	}
	if c.Overdue == 0 {
		return
	}
	for _, j := range c.jobRows {
		late := c.now.Sub(j.DueAt)
		switch {
		case j.State == "READY" && !j.Held && late > c.Overdue:
			c.breaks("job %s %s has been due for %s: %s", j.Kind, j.Key, late.Round(time.Second), j.LastError)
		case j.State == "READY" && j.Attempt > 0 && c.atRest:
			c.breaks("job %s %s has not been done after %d attempts: %s", j.Kind, j.Key, j.Attempt, j.LastError)
		case j.State == "DEAD" && c.atRest:
			c.breaks("job %s %s gave up: %s", j.Kind, j.Key, j.LastError)
		}
	}
	for _, r := range c.snapshot.requests {
		if late := c.now.Sub(r.ExpiresAt); r.State == "PENDING" && late > c.Overdue {
			c.breaks("%s: a request should have expired %s ago", c.nameOf(r.PullRequest), late.Round(time.Second))
		}
	}
}

// deliveries: each that was answered with 2xx is stored with its job, and at rest has had its effect.
func (c *check) deliveries() {
	for _, id := range c.Accepted {
		if _, found := c.stored[id]; !found {
			c.breaks("delivery %s was answered with 2xx and is not stored", id)
		}
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		c.breaks("deliveries cannot be read: %v", err)
		return
	}
	defer decoder.Close()
	for _, d := range c.stored {
		if d.Outcome != "PARSED" {
			continue
		}
		raw, err := decoder.DecodeAll(d.Body, nil)
		var keys []jobKey
		if err == nil {
			keys, err = asksFor(d, raw)
		}
		if err != nil {
			c.breaks("delivery %s cannot be read: %v", d.ID, err)
			continue
		}
		for _, key := range keys {
			c.followed(d, key)
		}
	}
}

// asksFor is what somebody must look at upon a delivery.
func asksFor(d storedDelivery, raw []byte) (keys []jobKey, err error) {
	var body struct {
		PullRequest struct {
			ID int64 `json:"id"`
		} `json:"pullrequest"`
		Push struct {
			Changes []struct {
				New *struct{ Type, Name string } `json:"new"`
				Old *struct{ Type, Name string } `json:"old"`
			} `json:"changes"`
		} `json:"push"`
		Status struct {
			Key string `json:"key"`
		} `json:"commit_status"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	place := d.Workspace + "/" + d.Repository + ":"
	switch {
	case strings.HasPrefix(d.Event, "pullrequest:comment"):
	case strings.HasPrefix(d.Event, "pullrequest:"):
		keys = append(keys, jobKey{"evaluate", fmt.Sprint(place, body.PullRequest.ID)})
	case d.Event == "repo:push":
		for _, change := range body.Push.Changes {
			ref := change.New
			if ref == nil {
				ref = change.Old
			}
			if ref != nil && ref.Type == "branch" {
				keys = append(keys, jobKey{"fan", place + ref.Name})
			}
		}
	case strings.HasPrefix(d.Event, "repo:commit_status_") && strings.HasPrefix(body.Status.Key, "signedapproval-"):
		keys = append(keys, jobKey{"status-seen", place + body.Status.Key})
	}
	return keys, nil
}

// followed: a delivery has left its job, and at rest that has been done.
func (c *check) followed(d storedDelivery, key jobKey) {
	j, found := c.jobRows[key]
	switch {
	case !found:
		c.breaks("delivery %s of %s is stored without its job", d.ID, d.Event)
	case c.atRest && (j.UpdatedAt.Before(d.ReceivedAt) || j.State == "READY" && !j.DueAt.After(c.now) && j.Attempt > 0):
		c.breaks("delivery %s of %s had no effect", d.ID, d.Event)
	}
}
