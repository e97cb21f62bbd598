// Command ask asks StudyAI's engine about a picture and writes the answer while it comes.
//
//	buf generate ../../protos && go mod tidy && go run . PICTURE QUESTION [HOST:PORT]
//
// A connection that breaks is made again, and the answer goes on where it was. The model is asked once: the question
// carries an idempotency key, and once an answer has begun it is resumed and not asked for again. Ctrl-C stops it.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "example.com/studyai/studyai/v1"
)

const (
	timeout      = 2 * time.Minute
	attempts     = 7
	firstDelay   = 250 * time.Millisecond
	longestDelay = 8 * time.Second
)

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "Usage: ask PICTURE QUESTION [HOST:PORT]")
		os.Exit(2)
	}
	target := "localhost:5001"
	if len(os.Args) == 4 {
		target = os.Args[3]
	}
	err := run(os.Args[1], os.Args[2], target)
	switch told, ok := status.FromError(err); {
	case err == nil:
	case errors.Is(err, context.Canceled):
		os.Exit(130) // as a shell expects of Ctrl-C
	case ok:
		fmt.Fprintf(os.Stderr, "\nfailed: %s: %s\n", reason(err), told.Message())
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "\nfailed: %v\n", err)
		os.Exit(1)
	}
}

func run(picture, prompt, target string) error {
	image, err := os.ReadFile(picture)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(target,
		// TLS: credentials.NewClientTLSFromFile(caFile, "").
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Finds connections that died without a word; the engine allows a ping every 5 s and more.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewChatServiceClient(connection)

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx, release := signal.NotifyContext(ctx, os.Interrupt)
	defer release()
	// Of several, comma-separated, the first: as the gateway does.
	if token, _, _ := strings.Cut(os.Getenv("SERVICE_TOKEN"), ","); token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}

	answer := &answer{client: client, question: &pb.ImageQuestion{Image: image, Prompt: prompt}, key: newKey()}
	err = answer.read(ctx)
	if !errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if answer.id != "" {
		if err := answer.stop(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// An answer on its way, and how far it has come.
type answer struct {
	client   pb.ChatServiceClient
	question *pb.ImageQuestion
	key      string
	id       string
	seen     uint32
	finished bool
}

// event is what ChatImageResponse and ResumeAnswerResponse have in common.
type event interface {
	GetSequence() uint32
	GetStarted() *pb.AnswerStarted
	GetTextDelta() *pb.TextDelta
	GetFinished() *pb.AnswerFinished
}

// read shows the answer to its end, whatever breaks on the way.
func (a *answer) read(ctx context.Context) error {
	for failures := 0; ; {
		seen := a.seen
		err := a.attempt(ctx)
		if err == nil {
			return nil
		}
		if a.seen > seen {
			failures = 0
		}
		failures++
		delay, passing := pause(err, failures)
		if !passing || failures > attempts || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "[%s; again in %v]\n", reason(err), delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempt reads one stream: the question's, or once the answer has begun, the rest of it.
func (a *answer) attempt(ctx context.Context) error {
	// Leaving a stream does not end its call; cancelling the context does.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if a.id == "" {
		stream, err := a.client.ChatImage(ctx, &pb.ChatImageRequest{Question: a.question, RequestId: a.key})
		if err != nil {
			return err
		}
		return drain(a, stream.Recv)
	}
	stream, err := a.client.ResumeAnswer(ctx, &pb.ResumeAnswerRequest{AnswerId: a.id, AfterSequence: a.seen})
	if err != nil {
		return err
	}
	return drain(a, stream.Recv)
}

func drain[E event](a *answer, receive func() (E, error)) error {
	for {
		message, err := receive()
		if errors.Is(err, io.EOF) && !a.finished {
			return status.Error(codes.Unavailable, "the stream ended before the answer")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a.show(message)
	}
}

func (a *answer) show(message event) {
	started, delta, finished := message.GetStarted(), message.GetTextDelta(), message.GetFinished()
	switch {
	case started != nil && a.id == "":
		a.id = started.GetAnswerId()
		fmt.Fprintf(os.Stderr, "[%s]\n", started.GetModel())
	case delta != nil && message.GetSequence() > a.seen:
		fmt.Print(delta.GetText())
	case finished != nil:
		a.finished = true
		fmt.Fprintf(os.Stderr, "\n[%d tokens]\n", finished.GetUsage().GetTotalTokens())
	}
	if message.GetSequence() > a.seen {
		a.seen = message.GetSequence()
	}
}

// stop ends the answer: nobody else waits for it.
func (a *answer) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := a.client.StopAnswer(ctx, &pb.StopAnswerRequest{AnswerId: a.id})
	return err
}

// reason returns the stable code to branch on: ErrorInfo's, or the status where gRPC itself failed.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "studyai" {
			return info.GetReason()
		}
	}
	return status.Code(err).String()
}

// pause returns how long to wait before going back, and whether it can help: not where the answer itself failed.
func pause(err error, failures int) (time.Duration, bool) {
	longest := math.Min(float64(longestDelay), float64(firstDelay)*math.Pow(2, float64(failures-1)))
	delay := time.Duration(longest * (0.5 + mathrand.Float64()/2))
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			if asked := info.GetRetryDelay().AsDuration(); asked > delay {
				delay = asked
			}
		}
	}
	switch reason(err) {
	case "OVERLOADED", "DRAINING", "ENGINE_UNAVAILABLE", codes.Unavailable.String(), codes.Internal.String():
		return delay, true
	}
	return delay, false
}

func newKey() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return hex.EncodeToString(bytes)
}
