package settings

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// CPU sets the container's cpu request, and the thread pools that follow from it.
var CPU = setting.Setting[resource.Quantity]{
	Key:     "cpu",
	Doc:     "CPU request in cores. There is no limit: a throttled broker misses its session timeouts. Kafka's thread pools follow.",
	Allowed: "a quantity of cores from 10m to 1024",
	Example: "2",
	Rule:    "500m.",
	Parse:   parseCPU,
	Format:  formatQuantity,
	Default: func(*setting.Resolver) resource.Quantity { return *resource.NewMilliQuantity(500, resource.DecimalSI) },
	Render: func(d *setting.Draft, v resource.Quantity) {
		require(d, corev1.ResourceCPU, v, false)
		cores := int((v.MilliValue() + 999) / 1000)
		// Without a limit the JVM sees every core of the node and sizes its pools for all of them.
		d.JVM = append(d.JVM, "-XX:ActiveProcessorCount="+strconv.Itoa(max(cores, 2)))
		if d.Role != setting.Kafka {
			return
		}
		d.Config.Put("num.io.threads", strconv.Itoa(max(8, 2*cores)))
		d.Config.Put("num.network.threads", strconv.Itoa(max(3, cores)))
		d.Config.Put("num.replica.fetchers", strconv.Itoa(clamp(cores/2, 1, 4)))
		d.Config.Put("num.recovery.threads.per.data.dir", strconv.Itoa(max(2, cores)))
	},
}
