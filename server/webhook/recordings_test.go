package webhook_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/webhook"
)

// recorded is what must become of one recorded body. The event is not in the body: it is the one
// that the recording's source names.
type recorded struct {
	event   string
	want    webhook.Event
	outcome string
	jobs    []string // with R for the repository
}

// changed is an event that asks for a look at one pull request.
func changed(event, repository string, number int64, jobs ...string) recorded {
	return recorded{event, webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: repository, PullRequest: number}, store.DeliveryParsed, jobs}
}

func discussed(event, repository string, number int64) recorded {
	return recorded{event, webhook.Event{Kind: webhook.PullRequestDiscussed, RepositoryUUID: repository, PullRequest: number}, store.DeliveryParsed, nil}
}

// pushed is a push that moved one branch; "" for none.
func pushed(repository, branch string) recorded {
	r := recorded{"repo:push", webhook.Event{Kind: webhook.Pushed, RepositoryUUID: repository}, store.DeliveryParsed, nil}
	if branch != "" {
		r.want.Branches, r.jobs = []string{branch}, []string{"fan R:" + branch}
	}
	return r
}

func unknown(event string) recorded {
	return recorded{event, webhook.Event{}, store.DeliveryUnknownEvent, nil}
}

func unparsable(event string) recorded {
	return recorded{event, webhook.Event{}, store.DeliveryUnparsable, []string{"reconcile R"}}
}

const (
	arol     = "1d29d34f-f8a1-4c3d-8269-f5d46bb6ca43"
	foo      = "bc771cbf-829e-4c4b-b71f-a0eb3ac2b860"
	sample   = "673a6070-3421-46c9-9d48-90745f7bfe8e"
	cloud    = "708c9715-0ecc-4a5d-87ed-63c4ba48ea06"
	atlantis = "94189367-116b-436a-9f77-2314b97a6067"
	amuniz   = "3deb8c29-778a-450c-8f69-3e50a18079df"
	spring   = "4402cbae-7790-453a-b29e-5fcab61a84df"
	pipeline = "2b922c6d-3824-4e91-a7be-90c8b8392f84"
)

// recordedEvents is read from the bodies by eye.
var recordedEvents = map[string]recorded{
	"B-AROL-O__ble-testsuite/2023-05-11-120942-webhook-site.json": pushed(arol, "gmacario/test03"),
	"B-AROL-O__ble-testsuite/2023-05-11-165427-webhook-site.json": pushed(arol, "gmacario/dev03"),
	"B-AROL-O__ble-testsuite/2023-05-11-165428-webhook-site.json": changed("pullrequest:created", arol, 6, "evaluate R:6"),
	"B-AROL-O__ble-testsuite/2023-05-12-134542-webhook-site.json": changed("pullrequest:approved", arol, 6, "evaluate R:6"),
	"B-AROL-O__ble-testsuite/2023-05-12-134549-webhook-site.json": pushed(arol, "main"),
	"B-AROL-O__ble-testsuite/2023-05-12-134550-webhook-site.json": changed("pullrequest:fulfilled", arol, 6, "evaluate R:6"),
	"B-AROL-O__ble-testsuite/2023-05-15-150855-webhook-site.json": pushed(arol, "gt/develop"),

	"drone__go-scm/pipeline_hook_created.json": {
		"repo:commit_status_created",
		webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: pipeline, StatusKey: "3343801", Commit: "bdf6fac0519ffd1562461eb82e018ff62efffbc9"},
		store.DeliveryParsed,
		[]string{"builds R:bdf6fac0519ffd1562461eb82e018ff62efffbc9"},
	},
	"drone__go-scm/pipeline_hook_update.json": {
		"repo:commit_status_updated",
		webhook.Event{Kind: webhook.StatusWritten, RepositoryUUID: pipeline, StatusKey: "3343801", Commit: "bdf6fac0519ffd1562461eb82e018ff62efffbc9"},
		store.DeliveryParsed,
		[]string{"builds R:bdf6fac0519ffd1562461eb82e018ff62efffbc9"},
	},
	"drone__go-scm/pr_comment_created.json": discussed("pullrequest:comment_created", spring, 1),
	"drone__go-scm/pr_comment_deleted.json": discussed("pullrequest:comment_deleted", spring, 1),
	"drone__go-scm/pr_created.json":         changed("pullrequest:created", foo, 1, "evaluate R:1"),
	"drone__go-scm/pr_declined.json":        changed("pullrequest:rejected", foo, 2, "evaluate R:2"),
	"drone__go-scm/pr_fulfilled.json":       changed("pullrequest:fulfilled", foo, 1, "evaluate R:1"),
	"drone__go-scm/pr_updated.json":         changed("pullrequest:updated", foo, 1, "evaluate R:1"),
	"drone__go-scm/push.json":               pushed(foo, "master"),
	"drone__go-scm/push_branch_create.json": pushed(foo, "develop"),
	"drone__go-scm/push_branch_delete.json": pushed(foo, "develop"),
	"drone__go-scm/push_tag_create.json":    pushed(foo, ""),
	"drone__go-scm/push_tag_delete.json":    pushed(foo, ""),

	"go-playground__webhooks/issue-comment-created.json":         unknown("issue:comment_created"),
	"go-playground__webhooks/issue-updated.json":                 unknown("issue:updated"),
	"go-playground__webhooks/pull-request-approval-removed.json": changed("pullrequest:unapproved", sample, 1, "evaluate R:1"),
	"go-playground__webhooks/pull-request-comment-created.json":  discussed("pullrequest:comment_created", sample, 1),
	"go-playground__webhooks/pull-request-merged.json":           changed("pullrequest:fulfilled", sample, 1, "evaluate R:1"),
	"go-playground__webhooks/repo-fork.json":                     unknown("repo:fork"),
	"go-playground__webhooks/repo-push.json":                     pushed(sample, "name-of-branch"),
	"go-playground__webhooks/repo-updated.json": {
		"repo:updated", webhook.Event{Kind: webhook.RepositoryChanged, RepositoryUUID: sample}, store.DeliveryParsed, []string{"reconcile R"},
	},

	"jenkinsci__bitbucket-branch-source-plugin/branch_deleted.json":                     pushed(amuniz, "feature/test"),
	"jenkinsci__bitbucket-branch-source-plugin/commit_created.json":                     pushed(amuniz, "feature/issue-819"),
	"jenkinsci__bitbucket-branch-source-plugin/createPayload.json":                      pushed(cloud, "main"),
	"jenkinsci__bitbucket-branch-source-plugin/createPayloadFork.json":                  changed("pullrequest:created", cloud, 3, "evaluate R:3"),
	"jenkinsci__bitbucket-branch-source-plugin/emptyPayload.json":                       pushed(cloud, ""),
	"jenkinsci__bitbucket-branch-source-plugin/fulfilledPayload.json":                   changed("pullrequest:fulfilled", cloud, 2, "evaluate R:2"),
	"jenkinsci__bitbucket-branch-source-plugin/pullrequest_created.json":                changed("pullrequest:created", "f991126e-6825-40ea-a1c2-e72c336ae41e", 735, "evaluate R:735"),
	"jenkinsci__bitbucket-branch-source-plugin/rejectedPayload.json":                    changed("pullrequest:rejected", cloud, 3, "evaluate R:3"),
	"jenkinsci__bitbucket-branch-source-plugin/updatePayload.json":                      pushed(cloud, "main"),
	"jenkinsci__bitbucket-branch-source-plugin/updatePayload_newCommit.json":            changed("pullrequest:updated", cloud, 3, "evaluate R:3"),
	"jenkinsci__bitbucket-branch-source-plugin/updatePayload_newDestinationCommit.json": changed("pullrequest:updated", cloud, 3, "evaluate R:3"),

	// Made anonymous by hand: their UUIDs have letters that no UUID has.
	"jenkinsci__bitbucket-push-and-pull-request-plugin/pr_comment_updated.json": unparsable("pullrequest:comment_updated"),
	"jenkinsci__bitbucket-push-and-pull-request-plugin/pr_updated.json":         unparsable("pullrequest:updated"),
	"jenkinsci__bitbucket-push-and-pull-request-plugin/repo_push.json":          unparsable("repo:push"),

	// Trimmed by hand: no UUID at all.
	"jenkinsci__generic-webhook-trigger-plugin/bitbucket-cloud-pull-request.feature": changed("pullrequest:created", "", 1, "evaluate R:1"),
	"woodpecker-ci__woodpecker/HookPull.json":                                        changed("pullrequest:created", "", 1, "evaluate R:1"),

	"runatlantis__atlantis/bitbucket-cloud-comment-event.json":        discussed("pullrequest:comment_created", atlantis, 2),
	"runatlantis__atlantis/bitbucket-cloud-pull-event-created.json":   changed("pullrequest:created", atlantis, 16, "evaluate R:16"),
	"runatlantis__atlantis/bitbucket-cloud-pull-event-fulfilled.json": changed("pullrequest:fulfilled", atlantis, 16, "evaluate R:16"),

	"woodpecker-ci__woodpecker/HookPush.json": pushed("898477b2-a080-4089-b385-597a783db392", "main"),
}

// The index of the recordings lists the webhooks first: each of them is in the table.
func TestEveryRecordedWebhookIsExpected(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile(filepath.Join(recordings(t), "INDEX.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(index), "\n## webhook ")
	section, _, more := strings.Cut(section, "\n## ")
	if !found || !more {
		t.Fatal("the index has no section about webhooks")
	}
	var listed []string
	for line := range strings.SplitSeq(section, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.TrimSpace(cells[1]) == "file" || strings.Contains(cells[1], "---") {
			continue
		}
		name := strings.TrimSpace(cells[1])
		listed = append(listed, name)
		want, ok := recordedEvents[name]
		if !ok {
			t.Errorf("%s is not expected", name)
		} else if event := strings.TrimSpace(cells[2]); !strings.HasPrefix(event, want.event) && !strings.HasPrefix(event, "gherkin ") {
			t.Errorf("%s: the index says %s, the table %s", name, event, want.event)
		}
	}
	if len(listed) != 48 || len(recordedEvents) != len(listed) {
		t.Errorf("%d are listed, %d expected", len(listed), len(recordedEvents))
	}
}

// Every recorded body goes through the whole door, signed as its repository's webhook would sign it.
func TestRecordedWebhooks(t *testing.T) {
	t.Parallel()
	recordings(t)
	b := setup(t, nil)
	b.intake.Start()
	conn := b.connect(t)
	for name, want := range recordedEvents {
		// One after the other: they share the ledger, and some of them a repository.
		t.Run(name, func(t *testing.T) {
			if _, err := conn.Exec(t.Context(), `delete from signedapproval_jobs`); err != nil {
				t.Fatal(err)
			}
			b.seen()
			body := recording(t, name)
			event, err := webhook.Parse(want.event, body)
			if !reflect.DeepEqual(event, want.want) || (err == nil) != (want.outcome == store.DeliveryParsed) {
				t.Fatalf("parsed as %+v, %v\nwant %+v", event, err, want.want)
			}
			repository := event.RepositoryUUID
			if repository == "" {
				if repository = repoUUID; want.outcome == store.DeliveryUnknownEvent {
					repository = sample
				}
			}
			hook := b.hook(t, workspaceUUID, repository)
			id := uuid.NewString()
			b.deliver(t, hook, want.event, id, body).accepted(t)

			if got, want := stored(t, conn)[id], (row{workspaceUUID, repository, want.event, 1, want.outcome}); got != want {
				t.Errorf("stored %+v, want %+v", got, want)
			}
			jobs, asked := ledger(t, conn)
			for i := range jobs {
				jobs[i] = strings.Replace(jobs[i], workspaceUUID+"/"+repository, "R", 1)
			}
			if !slices.Equal(jobs, want.jobs) || slices.ContainsFunc(asked, func(n int64) bool { return n != 1 }) {
				t.Errorf("jobs %q asked %d times, want %q", jobs, asked, want.jobs)
			}
			for _, spec := range event.Jobs(workspaceUUID, repository) {
				var payload []byte
				err := conn.QueryRow(t.Context(), `select payload from signedapproval_jobs where kind = $1 and key = $2 and workspace_id = $3`,
					spec.Kind, spec.Key, workspaceUUID).Scan(&payload)
				var place store.Place
				if err != nil || json.Unmarshal(payload, &place) != nil || place != spec.Payload {
					t.Errorf("payload %s (%v), want %+v", payload, err, spec.Payload)
				}
			}
			raw, err := b.store.DeliveryBody(t.Context(), id)
			if err != nil || !bytes.Equal(raw, body) {
				t.Errorf("the stored body is another: %v", err)
			}
			if !webhook.Signed(http.Header{"X-Hub-Signature": {sign(hook.Secret, body)}}, hook.Secret, raw) {
				t.Error("the stored body does not bear the signature")
			}
			outcome, label := strings.ToLower(want.outcome), want.event
			if want.outcome == store.DeliveryUnknownEvent {
				label = "other"
			}
			if seen := b.seen(); !slices.Equal(seen, []string{label + " " + outcome}) {
				t.Errorf("observed %q", seen)
			}
		})
	}
}

// One of the documentation's samples stands for several events.
func TestSamplesStandForSeveralEvents(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]string{
		"pull-request-merged": {
			"pullrequest:created", "pullrequest:updated", "pullrequest:push", "pullrequest:fulfilled", "pullrequest:rejected",
		},
		"pull-request-approval-removed": {"pullrequest:approved", "pullrequest:unapproved"},
		"pull-request-comment-created": {
			"pullrequest:comment_created", "pullrequest:comment_updated", "pullrequest:comment_deleted", "pullrequest:comment_resolved", "pullrequest:comment_reopened",
		},
	} {
		body := recording(t, "go-playground__webhooks/"+name+".json")
		for _, event := range events {
			want := webhook.Event{Kind: webhook.PullRequestChanged, RepositoryUUID: sample, PullRequest: 1}
			if strings.HasPrefix(event, "pullrequest:comment_") {
				want.Kind = webhook.PullRequestDiscussed
			}
			if got, err := webhook.Parse(event, body); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s as %s: %+v, %v", name, event, got, err)
			}
		}
	}
}

func TestDocumentedSignature(t *testing.T) {
	t.Parallel()
	var vector struct {
		Secret    store.Secret `json:"secret"`
		Payload   string       `json:"payload"`
		Signature string       `json:"x_hub_signature"`
	}
	if err := json.Unmarshal(recording(t, "atlassian__docs/hmac_doc_vector.json"), &vector); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"X-Hub-Signature": {vector.Signature}}
	if vector.Signature == "" || !webhook.Signed(header, vector.Secret, []byte(vector.Payload)) {
		t.Error("the documented signature does not verify")
	}
	if webhook.Signed(header, vector.Secret+".", []byte(vector.Payload)) || webhook.Signed(header, vector.Secret, []byte(vector.Payload+".")) {
		t.Error("it verifies for another secret or payload")
	}
}

// The signature is HMAC-SHA256 in full length: good and bad vectors of others say the same.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	var vectors struct {
		TestGroups []struct {
			TagSize int
			Tests   []struct {
				TcID            int
				Key, Msg, Tag   hexBytes
				Comment, Result string
			}
		}
	}
	if err := json.Unmarshal(recording(t, "C2SP__wycheproof/hmac_sha256_test.json"), &vectors); err != nil {
		t.Fatal(err)
	}
	counts := map[bool]int{}
	for _, group := range vectors.TestGroups {
		for _, test := range group.Tests {
			want := test.Result == "valid" && group.TagSize == 256
			counts[want]++
			header := http.Header{"X-Hub-Signature": {"sha256=" + hex.EncodeToString(test.Tag)}}
			if webhook.Signed(header, store.Secret(test.Key), test.Msg) != want {
				t.Errorf("vector %d of %d bits (%s): not %v", test.TcID, group.TagSize, test.Comment, want)
			}
		}
	}
	if counts[true] == 0 || counts[false] == 0 {
		t.Errorf("vectors: %v", counts)
	}
}

// hexBytes are bytes written in hex.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	*b = raw
	return err
}
