// Tags texts through a model server, in Go, over the plain protocol messages of serving/protocol.
//
//	go run . -target localhost:8500 -model news 小明住在北京。
//
// Offsets count code points, so a Go string is cut by runes. Rows are read by entity_count, not by the width of the
// answer: a server that merges requests answers with the width of the whole batch.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "fusion-ner/examples/clients/go/protocol"
)

const predict = "/tensorflow.serving.PredictionService/Predict"

func main() {
	target := flag.String("target", "localhost:8500", "host:port of the model server")
	model := flag.String("model", "ner", "name of the model")
	flag.Parse()
	texts := flag.Args()

	connection, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	request := tagRequest(*model, texts)
	response := new(pb.PredictResponse)
	if err := connection.Invoke(ctx, predict, request, response); err != nil {
		log.Fatal(err)
	}
	printEntities(texts, response)
}

func tagRequest(model string, texts []string) *pb.PredictRequest {
	values := make([][]byte, len(texts))
	for i, text := range texts {
		values[i] = []byte(text)
	}
	shape := &pb.TensorShapeProto{Dim: []*pb.TensorShapeProto_Dim{{Size: int64(len(texts))}}}
	text := &pb.TensorProto{Dtype: pb.DataType_DT_STRING, TensorShape: shape, StringVal: values}
	return &pb.PredictRequest{
		ModelSpec: &pb.ModelSpec{Name: model, SignatureName: "serving_default"},
		Inputs:    map[string]*pb.TensorProto{"text": text},
	}
}

func printEntities(texts []string, response *pb.PredictResponse) {
	outputs := response.Outputs
	width := int(outputs["entity_start"].TensorShape.Dim[1].Size)
	for row, text := range texts {
		characters := []rune(text)
		count := int(outputs["entity_count"].IntVal[row])
		for cell := row * width; cell < row*width+count; cell++ {
			start, end := outputs["entity_start"].IntVal[cell], outputs["entity_end"].IntVal[cell]
			kind, score := outputs["entity_type"].StringVal[cell], outputs["entity_score"].FloatVal[cell]
			fmt.Printf("%d\t%d\t%s\t%s\t%.3f\n", start, end, kind, string(characters[start:end]), score)
		}
	}
}
