package settings

import (
	"fmt"
	"strconv"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Partitions sets how many partitions a new topic has.
var Partitions = setting.Setting[int]{
	Key:        "partitions",
	Roles:      []setting.Role{setting.Kafka},
	Doc:        "Partitions of a new topic that does not ask for a number.",
	Allowed:    "a whole number from 1 to 10000",
	Example:    "12",
	Rule:       "1, Kafka's own default.",
	Replaces:   "default_partition_per_topic",
	Properties: []string{"num.partitions"},
	Parse:      parseInt(1, 10000),
	Format:     strconv.Itoa,
	Default:    func(*setting.Resolver) int { return 1 },
	Render:     func(d *setting.Draft, n int) { d.Config.Put("num.partitions", strconv.Itoa(n)) },
}

// ReplicationFactor sets how many copies of each partition there are.
var ReplicationFactor = setting.Setting[int]{
	Key:        "replication-factor",
	Roles:      []setting.Role{setting.Kafka},
	Doc:        "Copies of each partition of a new topic, and of Kafka's internal topics (these at most 3).",
	Allowed:    "a whole number from 1 to the number of brokers",
	Example:    "3",
	Rule:       "The number of brokers, at most 3.",
	Replaces:   "default_replication_factor_per_topic",
	Properties: []string{"default.replication.factor"},
	Parse:      parseInt(1, 1000),
	Format:     strconv.Itoa,
	Default:    func(r *setting.Resolver) int { return clamp(r.Replicas(), 1, 3) },
	Adjust: func(r *setting.Resolver, n int) (int, string) {
		if most := max(r.Replicas(), 1); n > most {
			return most, fmt.Sprintf("%d is more than the brokers; %d is used", n, most)
		}
		return n, ""
	},
	Check: func(r *setting.Resolver, n int) {
		if b := r.Replicas(); n > b && b > 0 {
			r.Conflict("replication-factor", "", strconv.Itoa(min(b, 3)), "is more than the brokers there are (spec.replicas is %d)", b)
		}
	},
	Render: func(d *setting.Draft, n int) {
		internal := strconv.Itoa(min(n, 3))
		d.Config.Put("default.replication.factor", strconv.Itoa(n))
		d.Config.Put("offsets.topic.replication.factor", internal)
		d.Config.Put("transaction.state.log.replication.factor", internal)
		if Version.Get(d.Resolver).AtLeast(4, 2) {
			d.Config.Put("share.coordinator.state.topic.replication.factor", internal)
		}
		if n > 1 {
			// Ready is not in sync: a roll waits until the replicas of the last broker had time to catch up.
			d.Set.Spec.MinReadySeconds = 60
		}
	},
}

// MinInsyncReplicas sets how many copies must have a record before it is acknowledged.
var MinInsyncReplicas = setting.Setting[int]{
	Key:        "min-insync-replicas",
	Roles:      []setting.Role{setting.Kafka},
	Doc:        "Copies that must have a record before a producer with acks=all gets its acknowledgement.",
	Allowed:    "a whole number from 1 to the replication factor",
	Example:    "2",
	Rule:       "1 below 3 copies; one more than half of the copies otherwise.",
	Properties: []string{"min.insync.replicas"},
	Parse:      parseInt(1, 1000),
	Format:     strconv.Itoa,
	Default: func(r *setting.Resolver) int {
		n := ReplicationFactor.Get(r)
		if n < 3 {
			return 1
		}
		return n/2 + 1
	},
	Adjust: func(r *setting.Resolver, n int) (int, string) {
		if most := ReplicationFactor.Get(r); n > most {
			return most, fmt.Sprintf("%d is more than the replication factor; %d is used", n, most)
		}
		return n, ""
	},
	Check: func(r *setting.Resolver, n int) {
		if ReplicationFactor.Get(r) < n {
			r.Conflict("min-insync-replicas", "replication-factor", strconv.Itoa(ReplicationFactor.Get(r)), "is more than the replication factor, so nothing could be produced with acks=all")
		}
	},
	Render: func(d *setting.Draft, n int) {
		internal := strconv.Itoa(min(n, 2, ReplicationFactor.Get(d.Resolver)))
		d.Config.Put("min.insync.replicas", strconv.Itoa(n))
		d.Config.Put("transaction.state.log.min.isr", internal)
		if Version.Get(d.Resolver).AtLeast(4, 2) {
			d.Config.Put("share.coordinator.state.topic.min.isr", internal)
		}
	},
}
