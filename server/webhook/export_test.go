package webhook

import "github.com/signedapproval/bitbucket/server/store"

// Signed is the check of the signature alone.
var Signed = signed

// Jobs are what an event asks for.
func (e Event) Jobs(workspace, repository string) []store.JobSpec {
	return e.jobs(workspace, repository)
}
