package settings

import (
	"errors"
	"strings"

	"github.com/distribution/reference"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Image sets the container's image.
var Image = setting.Setting[string]{
	Key:     "image",
	Doc:     "Full image reference, instead of the version's. It must have the upstream image's layout.",
	Allowed: "an image reference with a tag or a digest",
	Example: "registry.example.com/kafka:4.3.1",
	Rule:    "apache/kafka or zookeeper, with the version as tag.",
	Parse:   parseImage,
	Default: func(r *setting.Resolver) string {
		if r.Role == setting.ZooKeeper {
			return "zookeeper:" + Version.Get(r).String()
		}
		return "apache/kafka:" + Version.Get(r).String()
	},
	Render: func(d *setting.Draft, image string) { d.Main.Image = image },
}

func parseImage(text string) (string, error) {
	if text == "" {
		return "", errEmpty
	}
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return "", errors.New("is not an image reference")
	}
	if reference.IsNameOnly(ref) {
		return "", errors.New("has neither tag nor digest, so nobody could tell what runs")
	}
	return text, nil
}

// tagOf returns the tag's part that is a version: 4.3.1 of apache/kafka:4.3.1-rc1@sha256:….
func tagOf(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	tagged, ok := ref.(reference.Tagged)
	if !ok {
		return ""
	}
	tag, _, _ := strings.Cut(strings.TrimPrefix(tagged.Tag(), "v"), "-")
	return tag
}
