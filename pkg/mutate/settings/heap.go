package settings

import (
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Heap sets the JVM heap, initial and maximal alike.
var Heap = setting.Setting[resource.Quantity]{
	Key:      "heap",
	Doc:      "JVM heap, as initial and as maximal size.",
	Allowed:  "a size from 64Mi to 1Ti, or the JVM's flags -Xmx and -Xms",
	Example:  "4Gi",
	Rule:     "Kafka: half of the memory, at most 5Gi, and 0.4 of it below 2Gi. ZooKeeper: three quarters of the memory, at most 2Gi; 1Gi where no memory is set.",
	Replaces: "heap_size_option",
	Parse:    parseHeap,
	Format:   formatQuantity,
	Default: func(r *setting.Resolver) resource.Quantity {
		m := Memory.Get(r)
		return *bytesOf(heapFor(r, m.Value()))
	},
	Adjust: func(r *setting.Resolver, v resource.Quantity) (resource.Quantity, string) {
		if !Memory.Given(r) {
			return v, ""
		}
		m := Memory.Get(r)
		if v.Cmp(m) < 0 {
			return v, ""
		}
		w := *bytesOf(heapFor(r, m.Value()))
		return w, v.String() + " does not fit the memory " + m.String() + "; " + w.String() + " is used"
	},
	Check: func(r *setting.Resolver, v resource.Quantity) {
		if m := Memory.Get(r); v.Cmp(m) >= 0 {
			r.Conflict("heap", "memory", bytesOf(heapFor(r, m.Value())).String(), "does not fit into the container's memory, which also holds the JVM itself")
		}
	},
	Render: func(d *setting.Draft, v resource.Quantity) {
		size := jvmSize(v.Value())
		d.Env("HEAP_OPTS", "-Xms"+size+" -Xmx"+size)
	},
}

// heapFor is the heap for a memory: Strimzi's rule for brokers (half, at most 5Gi; the rest is page cache), less below
// 2Gi, where half leaves too little for the JVM itself. ZooKeeper keeps its whole tree in the heap and needs no page
// cache to speak of: three quarters of a memory that was asked for, at most 2Gi (ZooKeeper Administrator's Guide, Java
// Heap Size).
func heapFor(r *setting.Resolver, memory int64) int64 {
	share, most := memory/2, 5*gi
	switch {
	case r.Role == setting.ZooKeeper && Memory.Given(r):
		share, most = memory/4*3, 2*gi
	case r.Role == setting.ZooKeeper:
		most = gi
	case memory < 2*gi:
		share = memory * 4 / 10
	}
	return max(min(share, most)/mi*mi, 64*mi)
}

func jvmSize(n int64) string {
	switch {
	case n%mi == 0:
		return strconv.FormatInt(n/mi, 10) + "m"
	case n%1024 == 0:
		return strconv.FormatInt(n/1024, 10) + "k"
	}
	return strconv.FormatInt(n, 10)
}
