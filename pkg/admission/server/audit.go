package server

import (
	"context"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/metamorph-k8s/metamorph/pkg/audit"
)

// auditMetrics are registered once in a process.
var auditMetrics = sync.OnceValue(func() *audit.Metrics { return audit.NewMetrics(metrics.Registry) })

// audit judges what is stored, now and then, until the context ends.
func (s *server) audit(ctx context.Context, recorder audit.Recorder) {
	reader, err := audit.NewReader(s.Config)
	if err != nil {
		s.Log.Error(err, "There will be no audits")
		return
	}
	auditor := &audit.Auditor{
		Reader: reader, Reviewer: s.reviewer, Namespaces: s.find, Profiles: s.find, Certificates: s.inventory, Excluded: []string{s.Namespace},
		Recorder: recorder, Metrics: auditMetrics(), Log: s.Log.WithName("audit"), Interval: s.AuditInterval,
	}
	if s.AuditInterval < audit.DefaultDelay {
		auditor.Delay = s.AuditInterval
	}
	auditor.Run(ctx)
}
