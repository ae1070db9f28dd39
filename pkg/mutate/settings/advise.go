package settings

import (
	"fmt"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Advise tells of derived choices that the user of a new set should know.
func Advise(r *setting.Resolver) []setting.Warning {
	var out []setting.Warning
	say := func(c setting.Code, format string, args ...any) {
		out = append(out, setting.Warning{Code: c, Text: fmt.Sprintf(format, args...)})
	}
	if r.Role == setting.ZooKeeper {
		return nil
	}
	kraft := ZooKeeper.Get(r).Mode == NoZooKeeper
	if kraft && r.Facts.ClusterUID == "" {
		say(setting.Offline, "the cluster id was derived without the Kubernetes cluster's UID, so another cluster's set of this name has the same; the webhook knows it")
	}
	if n := Controllers.Get(r); kraft && r.Facts.Replicas != n && r.Facts.Replicas < 3 {
		say(setting.Derived, "%d nodes have %d controller: without node 0 the cluster stands still, also after scaling up; start with 3 to survive a failure", r.Facts.Replicas, n)
	} else if kraft && n == 1 {
		say(setting.Derived, "one node is one controller, and stays the only one after scaling up; start with 3 to survive a failure")
	}
	return out
}
