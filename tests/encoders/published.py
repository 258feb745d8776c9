"""What is known of the published checkpoints: their configs, as the hub shows them, and figures of their weights."""

from __future__ import annotations

from typing import Any

MULAN: dict[str, Any] = {
    "mulan": {
        "sr": 24000, "clip_secs": 10, "dim_latent": 512, "decoupled_contrastive_learning": True,
        "hierarchical_contrastive_loss": False, "hierarchical_contrastive_loss_layers": None,
        "sigmoid_contrastive_loss": False, "rank_contrast": True,
    },
    "audio_model": {"name": "OpenMuQ/MuQ-large-msd-iter", "model_dim": 1024, "use_layer_idx": -1},
    "text_model": {"name": "xlm-roberta-base", "model_dim": None, "use_layer_idx": -1},
    "audio_transformer": {
        "dim": 768, "tf_depth": 0, "heads": 8, "dim_head": 64, "attn_dropout": 0, "ff_dropout": 0, "ff_mult": 4,
    },
    "text_transformer": {
        "dim": 768, "tf_depth": 8, "max_seq_len": 1024, "dim_head": 64, "heads": 8, "attn_dropout": 0,
        "ff_dropout": 0, "ff_mult": 4,
    },
}  # fmt: skip
CONFORMER: dict[str, Any] = {
    "activation_dropout": 0.1, "adapter_kernel_size": 3, "adapter_stride": 2, "add_adapter": False,
    "apply_spec_augment": True, "architectures": ["Wav2Vec2ConformerForCTC"], "attention_dropout": 0.1,
    "bos_token_id": 1, "classifier_proj_size": 256, "codevector_dim": 768, "conformer_conv_dropout": 0.1,
    "contrastive_logits_temperature": 0.1, "conv_bias": True, "conv_depthwise_kernel_size": 31,
    "conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "ctc_loss_reduction": "sum", "ctc_zero_infinity": False, "diversity_loss_weight": 0.1,
    "do_stable_layer_norm": True, "eos_token_id": 2, "feat_extract_activation": "gelu", "feat_extract_dropout": 0.0,
    "feat_extract_norm": "layer", "feat_proj_dropout": 0.1, "feat_quantizer_dropout": 0.0, "final_dropout": 0.1,
    "gradient_checkpointing": False, "hidden_act": "swish", "hidden_dropout": 0.1, "hidden_dropout_prob": 0.1,
    "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 4096, "layer_norm_eps": 1e-05,
    "layerdrop": 0.0, "mask_feature_length": 10, "mask_feature_min_masks": 0, "mask_feature_prob": 0.0,
    "mask_time_length": 10, "mask_time_min_masks": 2, "mask_time_prob": 0.05, "max_source_positions": 5000,
    "model_type": "wav2vec2-conformer", "num_adapter_layers": 3, "num_attention_heads": 16,
    "num_codevector_groups": 2, "num_codevectors_per_group": 320, "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128, "num_feat_extract_layers": 7, "num_hidden_layers": 24, "num_negatives": 100,
    "output_hidden_size": 1024, "pad_token_id": 0, "position_embeddings_type": "rotary", "proj_codevector_dim": 768,
    "rotary_embedding_base": 10000, "tdnn_dilation": [1, 2, 3, 1, 1], "tdnn_dim": [512, 512, 512, 512, 1500],
    "tdnn_kernel": [5, 3, 3, 1, 1], "torch_dtype": "float32", "transformers_version": "4.19.0.dev0",
    "use_weighted_layer_sum": False, "vocab_size": 32, "xvector_output_dim": 512,
}  # fmt: skip
MUQ: dict[str, Any] = {
    "label_rate": 25, "num_codebooks": 1, "codebook_dim": 16, "codebook_size": 8192, "features": ["melspec_2048"],
    "hop_length": 240, "n_mels": 128, "conv_dim": 512, "encoder_dim": 1024, "encoder_depth": 12, "mask_hop": 0.4,
    "mask_prob": 0.6, "is_flash": False,
    "stat": {
        "melspec_2048_cnt": 14282760192, "melspec_2048_mean": 6.768444971712967,
        "melspec_2048_std": 18.417922652295623,
    },
    "w2v2_config": CONFORMER, "use_rvq_target": True, "use_vq_target": False, "use_encodec_target": False,
    "rvq_ckpt_path": None, "recon_loss_ratio": None, "resume_checkpoint": None, "rvq_n_codebooks": 8,
    "rvq_multi_layer_num": 1,
}  # fmt: skip
XLM_ROBERTA: dict[str, Any] = {
    "architectures": ["XLMRobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
    "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
    "model_type": "xlm-roberta", "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": True,
    "pad_token_id": 1, "position_embedding_type": "absolute", "transformers_version": "4.17.0.dev0",
    "type_vocab_size": 1, "use_cache": True, "vocab_size": 250002,
}  # fmt: skip
MERT: dict[str, Any] = {
    "_name_or_path": "m-a-p/MERT-v1-330M", "activation_dropout": 0.0, "apply_spec_augment": True,
    "architectures": ["MERTModel"], "attention_dropout": 0.0, "attention_relax": 32.0,
    "auto_map": {"AutoConfig": "configuration_MERT.MERTConfig", "AutoModel": "modeling_MERT.MERTModel"},
    "bos_token_id": 1, "classifier_proj_size": 256, "conv_bias": False, "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "ctc_loss_reduction": "sum",
    "ctc_zero_infinity": False, "deepnorm": False, "do_stable_layer_norm": True, "eos_token_id": 2,
    "feat_extract_activation": "gelu", "feat_extract_dropout": 0.0, "feat_extract_norm": "group",
    "feat_proj_dropout": 0.0, "feat_proj_layer_norm": True, "feature_extractor_cqt": False,
    "feature_extractor_cqt_bins": 336, "final_dropout": 0.0, "gradient_checkpointing": False, "hidden_act": "gelu",
    "hidden_dropout": 0.0, "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 4096,
    "layer_norm_eps": 1e-05, "layerdrop": 0.0, "mask_channel_length": 10, "mask_channel_min_space": 1,
    "mask_channel_other": 0.0, "mask_channel_prob": 0.0, "mask_channel_selection": "static",
    "mask_feature_length": 10, "mask_feature_min_masks": 0, "mask_feature_prob": 0.0, "mask_time_length": 10,
    "mask_time_min_masks": 2, "mask_time_min_space": 1, "mask_time_other": 0.0, "mask_time_prob": 0.075,
    "mask_time_selection": "static", "model_type": "mert_model", "num_attention_heads": 16,
    "num_conv_pos_embedding_groups": 16, "num_conv_pos_embeddings": 128, "num_feat_extract_layers": 7,
    "num_hidden_layers": 24, "pad_token_id": 0, "sample_rate": 24000, "tokenizer_class": "Wav2Vec2CTCTokenizer",
    "torch_dtype": "float32", "transformers_version": "4.24.0", "use_weighted_layer_sum": False, "vocab_size": 32,
}  # fmt: skip
MERT_PREPROCESSOR: dict[str, Any] = {
    "do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1,
    "padding_side": "right", "padding_value": 0, "return_attention_mask": True, "sampling_rate": 24000,
}  # fmt: skip

TENSORS = {"muq": 805, "mert": 403, "latent": 583}
"""How many a file holds; of Music2Latent's, 121 are the encoder's."""
MEGABYTES = {"muq": 2_653.6, "mert": 1_261.8, "latent": 232.8}
PICKLED = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch.FloatStorage",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
}
"""What music2latent.pt asks for when it is unpickled."""
