// Command signedapproval is a merge gate for Bitbucket Cloud: a pull request into a protected
// branch waits until the people that the policy asks for have approved that exact commit, each
// with a signature made by their own passkey or security key.
//
// # The life of a webhook
//
//  1. [webhook] is the door. It caps the body, proves the sender by the HMAC over the raw bytes,
//     and parses purely: out come ids, never facts.
//  2. [store.Intake] commits the delivery in a batch, together with the jobs that it asks for. A
//     repeated delivery changes nothing. Only then the door answers 2xx, and the jobs are rung.
//  3. [jobs] reads the ring and claims the job's row: the claim is the lease, with a fence.
//  4. gate.Evaluate reads the pull request again from Bitbucket, lets approval.Tally decide, and in
//     one transaction writes the verdict, its leaf, and the status that Bitbucket is owed.
//  5. gate.PutStatus pays what is owed, and records that it did if nothing has moved meanwhile. Before
//     anything green, [witness] has published a checkpoint of the log that covers the verdict's leaf.
//
// A decision takes the same road from step 3 on: gate.Decide verifies the assertion over the
// statement and asks for an evaluation. There is only one road to a commit status.
//
// # The life of a merge check
//
// The Forge app's events take the same road: [forge] proves Atlassian's invocation token where
// [webhook] proves an HMAC. The merge check is the one question that is answered at once. The door
// hands it to gate.MergeCheck, which reads the pull request again, tallies under the pull request's
// lock, records the answer with its leaf, and only then says yes. Whatever fails on the way is a no.
//
// # The floors
//
// Imports go down only:
//
//	main -> app -> {webhook, forge, tiles, graph} -> {gate, workspace, people}
//	     -> {bitbucket, atlassian, passkey, store, jobs, notify, witness, monitor, replay} -> {approval, evidence, attest, refusal}
//
// Packages of one floor do not import each other, but evidence may import approval. What one use
// case needs of another is a function that app hands over. floors_test.go holds it so.
package main
