package settings

import (
	"errors"
	"slices"
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
	Default: defaultImage,
	Adjust: func(r *setting.Resolver, image string) (string, string) {
		tag, err := parseVersion(tagOf(image))
		if err != nil || !Version.Given(r) || tag.Line() == Version.Get(r).Line() {
			return image, ""
		}
		v := defaultImage(r)
		return v, image + " is not of the version; " + v + " is used"
	},
	Check:  checkImage,
	Render: func(d *setting.Draft, image string) { d.Main.Image = image },
}

func defaultImage(r *setting.Resolver) string {
	if r.Role == setting.ZooKeeper {
		return "zookeeper:" + Version.Get(r).String()
	}
	return "apache/kafka:" + Version.Get(r).String()
}

// checkImage holds the image against the version that its configuration is rendered for. Tags of other people's images
// may count otherwise; then the version says what they hold.
func checkImage(r *setting.Resolver, image string) {
	tag, err := parseVersion(tagOf(image))
	v := Version.Get(r)
	switch given := Version.Given(r); {
	case err != nil && !given:
		r.Warn(setting.Derived, "the image's tag is no version; the configuration is that of "+v.String()+". Say with metamorph.dev/version what it holds")
	case err != nil, tag.Line() == v.Line(), given && !supports(r.Role, tag):
	case given:
		r.Conflict("image", "version", defaultImage(r), "is another line than the version")
	default:
		r.Report(setting.Problem{
			Code: setting.Contradiction, Field: r.FieldOf("image"), Got: setting.Quote(image), Reason: tag.String() + " is not a version of " + string(r.Role) + " that can be rendered",
			Allowed: "the lines " + lines(r.Role) + "; or metamorph.dev/version says what the image holds", Example: "metamorph.dev/version: " + newest(r.Role).String(),
		})
	}
}

// ForeignImage tells whether an image is, by its name, that of another role: a default for a namespace meets both.
func ForeignImage(role setting.Role, image string) bool {
	return slices.ContainsFunc(setting.Roles, func(r setting.Role) bool { return r != role && strings.Contains(repository(image), string(r)) })
}

// repository is the last part of an image's name: kafka of apache/kafka:4.3.1.
func repository(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	name := reference.Path(ref)
	return name[strings.LastIndexByte(name, '/')+1:]
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
