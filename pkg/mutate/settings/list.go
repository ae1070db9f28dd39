// Package settings holds Metamorph's settings, a file each, and the renderers of the roles that they add their share to.
package settings

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// All lists every setting, in the order in which they are documented and rendered.
var All = []setting.Definition{
	&Role, &Version, &Image, &Profile,
	&Replicas, &Controllers, &ClusterID, &Servers,
	&Heap, &Memory, &CPU, &Storage, &StorageClass,
	&Partitions, &ReplicationFactor, &MinInsyncReplicas, &Retention, &RetentionBytes,
	&ZooKeeper, &ZooKeeperReplicas, &ZooKeeperStorage,
	&SASL, &SASLSecret, &TLSSecret,
	&Metrics, &MetricsImage, &Config,
	&Refresh, &Managed,
}

var byKey = map[string]setting.Definition{}

func init() {
	propertySetting = map[string]setting.Definition{}
	for _, d := range All {
		info := d.Info()
		byKey[info.Key] = d
		for _, p := range info.Properties {
			propertySetting[p] = d
		}
	}
}

// Lookup finds a setting by its key.
func Lookup(key string) (setting.Definition, bool) {
	d, ok := byKey[key]
	return d, ok
}

// Keys lists what a user may write, for a role; an empty role means any.
func Keys(role setting.Role) []string {
	var out []string
	for _, d := range All {
		if info := d.Info(); !info.Internal && (role == "" || info.For(role)) {
			out = append(out, info.Key)
		}
	}
	return out
}

// Written are the annotations that Metamorph writes and users do not.
var Written = append([]string{"source", "settings", "rendered-by", "cluster-id", "controllers", "servers"}, Reported...)

// Conditions is the annotation in which the controller of the companions tells how they are, and Applied, on the ensemble that
// it makes, which hash that had when it was applied.
const (
	Conditions = "conditions"
	Applied    = "applied"
)

// Reported are the annotations that the controller of the companions writes, at any time: no setting follows from them.
var Reported = []string{Conditions, Applied}

// aliases are names that people try, from Kafka's and other charts' vocabulary, and ours.
var aliases = map[string]string{
	"replicas": "spec.replicas, which is plain Kubernetes", "brokers": "spec.replicas, which is plain Kubernetes",
	"disk": "storage", "volume": "storage", "size": "storage", "xmx": "heap", "jvm": "heap", "rf": "replication-factor",
	"min-isr": "min-insync-replicas", "isr": "min-insync-replicas", "mechanism": "sasl", "auth": "sasl", "tls": "tls-secret", "ssl": "tls-secret",
	"server-properties": "config", "properties": "config", "tag": "version", "class": "storage-class",
}

// Nearest finds the name that was probably meant; "" if none is near.
func Nearest(name string, names []string) string {
	name = strings.ToLower(name)
	best, most := "", max(2, len(name)/3)
	for _, n := range names {
		if d := levenshtein.ComputeDistance(name, n); d <= most {
			best, most = n, d-1
		}
	}
	if best == "" {
		i := slices.IndexFunc(names, func(n string) bool {
			return len(name) >= 4 && (strings.HasPrefix(n, name) || strings.HasPrefix(name, n))
		})
		if i >= 0 {
			best = names[i]
		}
	}
	return best
}

// NearestKey finds the setting that was probably meant by a key.
func NearestKey(key string, role setting.Role) string {
	if a, ok := aliases[strings.ToLower(key)]; ok {
		return a
	}
	folded := strings.ReplaceAll(strings.ToLower(key), "_", "-")
	return Nearest(strings.ReplaceAll(folded, ".", "-"), Keys(role))
}
