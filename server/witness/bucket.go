package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// maxKept bounds a checkpoint in a bucket, in bytes: a hundred signatures are more than any has.
const maxKept = 1 << 20

// Bucket is a sink: a bucket of an object store that speaks the S3 API and honours If-None-Match on writing, with one
// object for each checkpoint below a prefix. Its name is what is left to 10^18 - 1 from the tree's size, in 18
// digits, a minus sign, and the size, such as 999999999999998765-1234: object stores list names in their order,
// and so the newest come first. Object lock in compliance mode keeps what is written from being
// deleted.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
	refuses        atomic.Bool // it was seen to refuse to overwrite
}

// NewBucket names a bucket as s3://bucket/prefix, with ?endpoint=https://… where it is not at Amazon's, and &region=… where
// it does not tell its region. The credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from
// the file of the AWS command line, or from the machine's role.
func NewBucket(address string) (*Bucket, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "s3" || at.Host == "" || at.User != nil {
		return nil, errors.New("the sink must be a folder or s3://bucket/prefix")
	}
	endpoint := &url.URL{Scheme: "https", Host: "s3.amazonaws.com"}
	for name, values := range at.Query() {
		switch {
		case name == "endpoint":
			endpoint, err = url.Parse(values[0])
			if err != nil || !safe(endpoint) || strings.Trim(endpoint.Path, "/") != "" {
				return nil, errors.New("the endpoint of the sink must be https, such as https://objects.example")
			}
		case name != "region":
			return nil, fmt.Errorf("the sink's address may name an endpoint and a region, and not %q", name)
		}
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: publishTime}},
		}),
		Secure: endpoint.Scheme == "https", Region: at.Query().Get("region"), MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	b := &Bucket{client: client, bucket: at.Host}
	if prefix := strings.Trim(at.Path, "/"); prefix != "" {
		b.prefix = prefix + "/"
	}
	return b, nil
}

// String is where the sink is.
func (b *Bucket) String() string { return strings.TrimRight("s3://"+b.bucket+"/"+b.prefix, "/") }

// key begins with what is left to the largest size.
func (b *Bucket) key(size int64) string {
	return fmt.Sprintf("%s%018d-%d", b.prefix, int64(maxSize)-size, size)
}

var keyName = regexp.MustCompile(`^[0-9]{18}-(0|[1-9][0-9]{0,17})$`)

func (b *Bucket) upTo(ctx context.Context, size int64, most int) (sizes []int64, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	for object := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{
		Prefix: b.prefix, Recursive: true, MaxKeys: most, StartAfter: fmt.Sprintf("%s%018d", b.prefix, int64(maxSize)-size),
	}) {
		if object.Err != nil {
			return nil, b.fault(ctx, "list", object.Err)
		}
		name := strings.TrimPrefix(object.Key, b.prefix)
		if !keyName.MatchString(name) {
			continue
		}
		_, digits, _ := strings.Cut(name, "-")
		found, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || b.key(found) != object.Key {
			continue
		}
		if sizes = append(sizes, found); len(sizes) == most {
			break
		}
	}
	return sizes, nil
}

func (b *Bucket) at(ctx context.Context, size int64) ([]byte, error) {
	object, err := b.client.GetObject(ctx, b.bucket, b.key(size), minio.GetObjectOptions{})
	if err != nil {
		return nil, b.fault(ctx, "read", err)
	}
	defer object.Close()
	signed, err := io.ReadAll(io.LimitReader(object, maxKept))
	if err != nil {
		return nil, b.fault(ctx, "read", err)
	}
	return signed, nil
}

// put writes an object unless there is one. Not every store that speaks the API knows that condition, so this is tried
// the first time that an object was written.
func (b *Bucket) put(ctx context.Context, size int64, signed []byte) error {
	err := b.write(ctx, size, signed)
	if err == nil && !b.refuses.Load() {
		if err := b.write(ctx, size, signed); !errors.Is(err, fs.ErrExist) {
			return errors.Join(fmt.Errorf("sink: %s overwrites objects in spite of If-None-Match: it cannot be one", b), err)
		}
		b.refuses.Store(true)
	}
	return err
}

func (b *Bucket) write(ctx context.Context, size int64, signed []byte) error {
	options := minio.PutObjectOptions{
		ContentType: "text/plain; charset=utf-8", DisableMultipart: true,
		SendContentMd5: true, // a bucket with object lock demands it
	}
	options.SetMatchETagExcept("*")
	_, err := b.client.PutObject(ctx, b.bucket, b.key(size), bytes.NewReader(signed), int64(len(signed)), options)
	if err != nil {
		return b.fault(ctx, "write", err)
	}
	return nil
}

// fault tells what the rest of the package looks for.
func (b *Bucket) fault(ctx context.Context, what string, err error) error {
	answer := minio.ToErrorResponse(err)
	switch {
	case answer.Code == minio.NoSuchKey:
		err = fs.ErrNotExist
	case answer.Code == minio.PreconditionFailed || answer.StatusCode == http.StatusPreconditionFailed:
		err = fs.ErrExist
	case answer.Code != "" && answer.StatusCode != 0:
		err = fmt.Errorf("the object store answered %d %s", answer.StatusCode, answer.Code)
	default:
		if _, calling := errors.AsType[*url.Error](err); calling || ctx.Err() != nil {
			err = away(err)
		}
	}
	return fmt.Errorf("sink: %s in %s: %w", what, b, err)
}
