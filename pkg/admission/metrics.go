package admission

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// Metrics are the numbers about admission. No label has a value that a user can choose.
type Metrics struct {
	duration   *prometheus.HistogramVec
	expansions *prometheus.CounterVec
	findings   *prometheus.CounterVec
}

// NewMetrics makes and registers them. It panics if they are registered already.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "metamorph_admission_duration_seconds",
			Help: "Time to answer an admission request, by webhook (mutate, validate, scale), operation (create, update, delete, other) and result (expanded, unchanged, ignored, invalid, judged, denied, error).",
			// From what an expansion takes to the timeout of the registration.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"webhook", "operation", "result"}),
		expansions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "metamorph_expansions_total",
			Help: "StatefulSets that were expanded, or changed by an update, by role.",
		}, []string{"role"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "metamorph_policy_findings_total",
			Help: "What policies found at admission, by code of the policy (MM300: it could not be evaluated) and action (deny, warn, audit).",
		}, []string{"code", "action"}),
	}
	registry.MustRegister(m.duration, m.expansions, m.findings)
	for _, role := range setting.Roles {
		m.expansions.WithLabelValues(string(role)) // so that a rate exists from the start
	}
	return m
}

func (m *Metrics) observe(webhook string, operation admissionv1.Operation, result Result, role setting.Role, took time.Duration) {
	if m == nil {
		return
	}
	label := "other"
	switch operation {
	case admissionv1.Create:
		label = "create"
	case admissionv1.Update:
		label = "update"
	case admissionv1.Delete:
		label = "delete"
	}
	m.duration.WithLabelValues(webhook, label, string(result)).Observe(took.Seconds())
	if result == Expanded && role != "" {
		m.expansions.WithLabelValues(string(role)).Inc()
	}
}

// found counts findings. Codes are those of the policies that are loaded, so they are few.
func (m *Metrics) found(findings []policy.Finding) {
	if m == nil {
		return
	}
	for i := range findings {
		m.findings.WithLabelValues(findings[i].Code, findings[i].Action.String()).Inc()
	}
}
