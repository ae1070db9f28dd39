package server

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/metamorph-k8s/metamorph/pkg/audit"
	"github.com/metamorph-k8s/metamorph/pkg/companion"
)

// companionMetrics are registered once in a process.
var companionMetrics = sync.OnceValue(func() *companion.Metrics { return companion.NewMetrics(metrics.Registry) })

// companionPause is the time until the controller is started again after it failed.
const companionPause = 10 * time.Second

// companions keeps the objects beside the StatefulSets, until the context ends.
func (s *server) companions(ctx context.Context, recorder audit.Recorder) {
	log := s.Log.WithName("companion")
	defer companionMetrics().Reset()
	for ctx.Err() == nil {
		err := companion.Run(ctx, companion.Options{
			Config: s.Config, Recorder: recorder, Metrics: companionMetrics(), Log: log, Excluded: []string{metav1.NamespaceSystem, s.Namespace},
		})
		if ctx.Err() != nil {
			return
		}
		log.Error(err, "The controller of the companions ended; it is started again", "after", companionPause.String())
		select {
		case <-ctx.Done():
		case <-time.After(companionPause):
		}
	}
}
