package server

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// The times of the election, those that kube-controller-manager has.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// lead does work while this replica is the leader, again and again until the context ends. A replica that cannot be elected,
// because it may not write the Lease, serves admission all the same.
func lead(ctx context.Context, config *rest.Config, namespace string, log logr.Logger, work func(context.Context)) error {
	client, err := coordinationv1.NewForConfig(config)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "metamorph"
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: admission.LeaseName}, Client: client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s_%s", host, uuid.NewUUID())},
	}
	ctx = klog.NewContext(ctx, log)
	for ctx.Err() == nil {
		var working sync.WaitGroup
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true, Name: admission.LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					working.Go(func() {
						log.Info("This replica is the leader: it keeps the companions, audits, and reports on policies")
						work(ctx)
					})
				},
				OnStoppedLeading: func() { log.V(1).Info("This replica is not the leader") },
			},
		})
		if err != nil {
			return err
		}
		elector.Run(ctx) // until the lead is lost
		working.Wait()   // a leader that comes back must not do it twice
	}
	return nil
}
