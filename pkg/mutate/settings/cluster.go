package settings

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"strconv"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Replicas records the node count that the other settings were derived from.
var Replicas = setting.Setting[int]{
	Key: "replicas", Internal: true, Outside: true,
	Doc:     "The number of nodes, from spec.replicas, when the settings were resolved.",
	Parse:   parseInt(0, math.MaxInt32),
	Format:  strconv.Itoa,
	Default: func(r *setting.Resolver) int { return max(r.Facts.Replicas, 0) },
	Check: func(r *setting.Resolver, _ int) {
		if n := r.Facts.Replicas; n < 0 {
			r.Report(setting.Problem{Code: setting.BadSpec, Field: "spec.replicas", Got: strconv.Itoa(n), Reason: "is negative", Allowed: "0 or more", Example: "3"})
		}
	},
}

// maxControllers is what the rule yields at most; a recorded number above it was not written by Metamorph.
const maxControllers = 3

// Controllers is how many ordinals, from 0 on, are controllers too.
var Controllers = setting.Setting[int]{
	Key: "controllers", Internal: true,
	Roles:  []setting.Role{setting.Kafka},
	Doc:    "How many nodes, from ordinal 0 on, are controllers too; 0 with ZooKeeper. Fixed at creation.",
	Parse:  parseInt(0, maxControllers),
	Format: strconv.Itoa,
	Default: func(r *setting.Resolver) int {
		if ZooKeeper.Get(r).Mode != NoZooKeeper {
			return 0
		}
		// Odd, because an even quorum survives no more failures than one voter less; three, because that is enough for a
		// rolling restart and one failure (Kafka documentation, KRaft: Provisioning Nodes).
		if r.Replicas() < maxControllers {
			return 1
		}
		return maxControllers
	},
	Render: func(d *setting.Draft, n int) {
		if n > 0 {
			d.Annotate("controllers", strconv.Itoa(n))
			d.Env("CONTROLLERS", strconv.Itoa(n))
			d.Config.Put("controller.quorum.voters", voters(d.Facts.Name, n))
		}
	},
}

// ClusterID is the KRaft cluster's id.
var ClusterID = setting.Setting[string]{
	Key: "cluster-id", Internal: true,
	Roles: []setting.Role{setting.Kafka},
	Doc:   "The KRaft cluster's id: 16 bytes in base64url. Every volume is formatted with it.",
	Parse: func(text string) (string, error) {
		if raw, err := base64.RawURLEncoding.DecodeString(text); err != nil || len(raw) != 16 {
			return "", errors.New("is not 16 bytes in base64url")
		}
		return text, nil
	},
	Default: func(r *setting.Resolver) string {
		if ZooKeeper.Get(r).Mode != NoZooKeeper {
			return "" // the id lives in ZooKeeper
		}
		return clusterID(r.Facts.ClusterUID, r.Facts.Namespace, r.Facts.Name)
	},
	Render: func(d *setting.Draft, id string) {
		if id != "" {
			d.Annotate("cluster-id", id)
			d.Env("CLUSTER_ID", id)
		}
	},
}

// clusterID derives an id that is the same for the same object, so that a set that is deleted and applied again finds its
// volumes, and another one in every Kubernetes cluster, so that two brokers that meet by mistake part at once.
func clusterID(uid, namespace, name string) string {
	sum := sha256.Sum256([]byte("metamorph\x00" + uid + "\x00" + namespace + "\x00" + name))
	// Kafka's tools take an id that starts with a dash for an option.
	sum[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// maxServers is the largest id that a server can have (ZooKeeper Administrator's Guide, myid).
const maxServers = 255

// Servers is the size of a ZooKeeper ensemble.
var Servers = setting.Setting[int]{
	Key: "servers", Internal: true,
	Roles:   []setting.Role{setting.ZooKeeper},
	Doc:     "The size of a ZooKeeper ensemble: how many servers its configuration lists.",
	Parse:   parseInt(1, maxServers),
	Format:  strconv.Itoa,
	Default: func(r *setting.Resolver) int { return clamp(r.Replicas(), 1, maxServers) },
	Check: func(r *setting.Resolver, _ int) {
		if n := r.Replicas(); n > maxServers {
			r.Report(setting.Problem{
				Code: setting.BadSpec, Field: "spec.replicas", Got: strconv.Itoa(n), Reason: "a ZooKeeper server's id ends at " + strconv.Itoa(maxServers),
				Allowed: "at most that many servers; 3 or 5 are usual", Example: "3",
			})
		}
	},
	Render: func(d *setting.Draft, n int) {
		d.Annotate("servers", strconv.Itoa(n))
		if n == 1 {
			return // one server alone is no quorum, and logs an error about a line that names it
		}
		for i := range n {
			host := peer(d.Facts.Name, i)
			d.Config.Put("server."+strconv.Itoa(i+1), host+":2888:3888")
		}
	},
}

// Headless is the name of the Service that gives the pods their DNS names.
func Headless(name string) string { return name + "-headless" }

// peer is a pod's DNS name as its own peers write it: short, so that the object can be restored into another namespace.
func peer(name string, ordinal int) string {
	return name + "-" + strconv.Itoa(ordinal) + "." + Headless(name)
}

func voters(name string, n int) string {
	var b []byte
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(i), 10)
		b = append(b, '@')
		b = append(b, peer(name, i)...)
		b = append(b, ":9093"...)
	}
	return string(b)
}
