package settings

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Memory sets the container's memory, request and limit alike.
var Memory = setting.Setting[resource.Quantity]{
	Key:     "memory",
	Doc:     "Memory of the container, as request and as limit.",
	Allowed: "a size from 256Mi to 4Ti",
	Example: "8Gi",
	Rule:    "Twice the heap, and at least 1Gi more than it, where a heap is set; 2Gi otherwise.",
	Parse:   parseBytes(256*mi, 4*ti),
	Format:  formatQuantity,
	Default: memoryFromHeap,
	Adjust: func(r *setting.Resolver, v resource.Quantity) (resource.Quantity, string) {
		if !r.OnObject("heap") {
			return v, ""
		}
		if h := setting.ByKey[resource.Quantity](r, "heap"); h.Cmp(v) < 0 {
			return v, ""
		}
		w := memoryFromHeap(r)
		return w, v.String() + " does not hold the heap; " + w.String() + " is used"
	},
	Render: func(d *setting.Draft, v resource.Quantity) {
		require(d, corev1.ResourceMemory, v, true)
	},
}

func memoryFromHeap(r *setting.Resolver) resource.Quantity {
	if !setting.Given[resource.Quantity](r, "heap") {
		return *bytesOf(2 * gi)
	}
	h := setting.ByKey[resource.Quantity](r, "heap")
	return *bytesOf(max(2*h.Value(), h.Value()+gi))
}

// require adds a resource to the main container's requests, and to its limits where it is to be limited.
func require(d *setting.Draft, name corev1.ResourceName, v resource.Quantity, limit bool) {
	res := &d.Main.Resources
	if res.Requests == nil {
		res.Requests = corev1.ResourceList{}
	}
	res.Requests[name] = v
	if !limit {
		return
	}
	if res.Limits == nil {
		res.Limits = corev1.ResourceList{}
	}
	res.Limits[name] = v
}
