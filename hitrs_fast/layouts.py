"""The known layouts as plain facts; skeleton.py makes a `SkeletonLayout` of each.

Names say the joint, then the side. A store and a checkpoint hold both names and parents: do not change a published one.
"""

from __future__ import annotations

# By name of the layout: the joints' names, each joint's parent (-1: a root), the joint that sequences are centred on.
TABLE: dict[str, tuple[str, tuple[int, ...], int]] = {
    # Kinect v2, in NTU RGB+D's joint order. The bones are the pairs the Hi-TRS authors (and CrosSCLR) subtract:
    # hand tips hang from the thumbs, and the root is the spine at the shoulders.
    "ntu25": (
        "spine_base spine_mid neck head shoulder_left elbow_left wrist_left hand_left shoulder_right elbow_right "
        "wrist_right hand_right hip_left knee_left ankle_left foot_left hip_right knee_right ankle_right "
        "foot_right spine_shoulder hand_tip_left thumb_left hand_tip_right thumb_right",
        (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, -1, 22, 7, 24, 11),
        0,
    ),
    # Kinect v1 (NW-UCLA, UTKinect, CWBG).
    "kinect20": (
        "hip_center spine shoulder_center head shoulder_left elbow_left wrist_left hand_left shoulder_right "
        "elbow_right wrist_right hand_right hip_left knee_left ankle_left foot_left hip_right knee_right "
        "ankle_right foot_right",
        (-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
        0,
    ),
    # COCO's key points; the hips hang from the shoulders, as in its list of limbs, and the nose is the root.
    "coco17": (
        "nose eye_left eye_right ear_left ear_right shoulder_left shoulder_right elbow_left elbow_right wrist_left "
        "wrist_right hip_left hip_right knee_left knee_right ankle_left ankle_right",
        (-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
        11,
    ),
    # Human3.6M in the order of VideoPose3D and its successors.
    "h36m17": (
        "pelvis hip_right knee_right ankle_right hip_left knee_left ankle_left spine thorax neck head "
        "shoulder_left elbow_left wrist_left shoulder_right elbow_right wrist_right",
        (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
        0,
    ),
    # MediaPipe (BlazePose).
    "mediapipe33": (
        "nose eye_inner_left eye_left eye_outer_left eye_inner_right eye_right eye_outer_right ear_left ear_right "
        "mouth_left mouth_right shoulder_left shoulder_right elbow_left elbow_right wrist_left wrist_right "
        "pinky_left pinky_right index_left index_right thumb_left thumb_right hip_left hip_right knee_left "
        "knee_right ankle_left ankle_right heel_left heel_right foot_index_left foot_index_right",
        (
            *(-1, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24),
            *(25, 26, 27, 28, 29, 30),
        ),
        23,
    ),
    # OpenPose's COCO model with its pairs. What it calls neck is the middle of the shoulders, so it is named that.
    "openpose18": (
        "nose shoulder_center shoulder_right elbow_right wrist_right shoulder_left elbow_left wrist_left hip_right "
        "knee_right ankle_right hip_left knee_left ankle_left eye_right eye_left ear_right ear_left",
        (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 1, 11, 12, 0, 0, 14, 15),
        11,
    ),
    # OpenPose's BODY_25 with its pairs.
    "openpose25": (
        "nose shoulder_center shoulder_right elbow_right wrist_right shoulder_left elbow_left wrist_left mid_hip "
        "hip_right knee_right ankle_right hip_left knee_left ankle_left eye_right eye_left ear_right ear_left "
        "big_toe_left small_toe_left heel_left big_toe_right small_toe_right heel_right",
        (1, -1, 1, 2, 3, 1, 5, 6, 1, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
        8,
    ),
    # SMPL's kinematic tree.
    "smpl24": (
        "pelvis hip_left hip_right spine1 knee_left knee_right spine2 ankle_left ankle_right spine3 foot_left "
        "foot_right neck collar_left collar_right head shoulder_left shoulder_right elbow_left elbow_right "
        "wrist_left wrist_right hand_left hand_right",
        (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
        0,
    ),
    # CMU mocap as B. Hahne's BVH files have it: 31 joints and 7 ends of limbs, depth first. Bones of length 0 put
    # hip bases and lower_back at the pelvis, neck_base and clavicles at the thorax, bases of thumb and fingers at the
    # wrist.
    "cmu38": (
        "pelvis hip_base_left hip_left knee_left ankle_left foot_left toe_left hip_base_right hip_right knee_right "
        "ankle_right foot_right toe_right lower_back spine thorax neck_base neck head head_top clavicle_left "
        "shoulder_left elbow_left wrist_left finger_base_left hand_left hand_tip_left thumb_base_left thumb_left "
        "clavicle_right shoulder_right elbow_right wrist_right finger_base_right hand_right hand_tip_right "
        "thumb_base_right thumb_right",
        (
            *(-1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23, 24, 25),
            *(23, 27, 15, 29, 30, 31, 32, 33, 34, 32, 36),
        ),
        0,
    ),
}
