// Package webhook is the door for Bitbucket's webhooks. It proves the sender, stores the delivery
// together with the jobs that it asks for, and answers after the commit. It believes nothing that a
// body says about the state of anything: of a body it takes what is to be looked at again.
package webhook
