package app

import (
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/signedapproval/bitbucket/server/bitbucket"
)

// meters are the server's metrics. No label holds an id, a token, or the name of anybody but a witness of the log.
type meters struct {
	registry  *prometheus.Registry
	jobs      *prometheus.HistogramVec
	calls     *prometheus.HistogramVec
	hooks     *prometheus.HistogramVec
	graph     *prometheus.HistogramVec
	log       *prometheus.HistogramVec
	witnesses *prometheus.HistogramVec
	throttled prometheus.Counter
}

func newMeters() *meters {
	m := &meters{
		registry: prometheus.NewRegistry(),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_job_seconds", Help: "How long jobs ran, by kind and outcome.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"kind", "outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_bitbucket_call_seconds", Help: "How long calls to Bitbucket took, by call and status; 0 for no answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"call", "status"}),
		hooks: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_webhook_seconds", Help: "How long webhooks took until they were answered, by event and outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"event", "outcome"}),
		graph: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_graphql_wait_seconds", Help: "How long GraphQL operations and events of streams waited for their turn, by outcome: served, crowded (their caller had all places that it may have), overload (others had), gone.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"outcome"}),
		log: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_log_publish_seconds", Help: "How long publications of the log took, by outcome.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"outcome"}),
		witnesses: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signedapproval_log_witness_seconds", Help: "How long witnesses took to cosign the log, by witness and outcome: cosigned, away, refused, ahead, overtaken, nonsense.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"witness", "outcome"}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signedapproval_bitbucket_throttled_total", Help: "How often Bitbucket answered that a connection calls too often.",
		}),
	}
	m.registry.MustRegister(m.jobs, m.calls, m.hooks, m.graph, m.log, m.witnesses, m.throttled, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *meters) job(kind, outcome string, took time.Duration) {
	m.jobs.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

func (m *meters) call(call bitbucket.Call, status int, took time.Duration) {
	m.calls.WithLabelValues(call.Op, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *meters) hook(event, outcome string, took time.Duration) {
	m.hooks.WithLabelValues(event, outcome).Observe(took.Seconds())
}

func (m *meters) turn(outcome string, took time.Duration) {
	m.graph.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *meters) publication(took time.Duration, err error) {
	outcome := "published"
	if err != nil {
		outcome = "failed"
	}
	m.log.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *meters) witness(name, outcome string, took time.Duration) {
	m.witnesses.WithLabelValues(name, outcome).Observe(took.Seconds())
}

// Metrics serves /metrics, and profiles of the running process below /debug/pprof/. It is for the operator's
// network, not for the public.
func (s *Server) Metrics() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", promhttp.HandlerFor(s.meters.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux
}
